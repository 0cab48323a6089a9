"""Looks, while answers come, whether their log-probabilities give the probabilities of the labels."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from distill_jax.data.schema import Example
from distill_jax.teachers.jobs import AnnotationPlan
from distill_jax.teachers.messages import Answer
from distill_jax.teachers.quality import read_sample

logger = logging.getLogger(__name__)
_ENOUGH = 3  # answers with a label and without its probability, before that is told
_OTHERWISE = "or take the shares of the votes: --samples N"


class LabelProbs:
    """Counts the answers that give `label_probs`; says once why the first ones do not, and what helps."""

    def __init__(self, plan: AnnotationPlan):
        self._plan, self._without = plan, 0
        self.found = 0  # answers that give the probability of each label

    def look(self, example: Example, answers: Sequence[Answer], lines: Sequence[Mapping[str, Any]]) -> None:
        """Looks at the answers of a row and their lines of the store, where these were asked for."""
        if not self._plan.sampling.logprobs:
            return
        options = example.choices or self._plan.classes

        def label_text(label: str) -> str:
            return self._plan.template.label_text(example, label, self._plan.structured)

        for answer, line in zip(answers, lines, strict=False):
            sample = read_sample(line, options, label_text)
            self.found += sample.probs is not None
            self._without += sample.label is not None and sample.probs is None
            if self._without == _ENOUGH and not self.found:
                self._without += 1
                logger.warning("the first answers give no label_probs: %s", self._why(options, answer))

    def _why(self, options: Sequence[str] | None, answer: Answer) -> str:
        if not options:
            return "the labels there can be are not known: give --classes, or choices in the rows"
        if not answer.tokens:
            return f"the server sends no log-probabilities: leave --logprobs out, {_OTHERWISE}"
        if self._plan.structured:
            return (
                "with --structured some servers send log-probabilities from before the grammar, where the "
                "labels are seldom among the likeliest tokens: show demonstrations, have llama.cpp send those "
                "from after it (--temperature 1 --extra-body '{\"post_sampling_probs\": true}'), leave "
                f"--structured out, {_OTHERWISE}"
            )
        return f"the labels are not among the likeliest tokens: raise --logprobs, {_OTHERWISE}"
