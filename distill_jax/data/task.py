"""A task: where its examples come from, how a student sees them, and how answers are scored."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from distill_jax.data import views
from distill_jax.data.schema import Example
from distill_jax.data.sources import Source, located
from distill_jax.data.views import View, place_of
from distill_jax.errors import UserError

MetricFn = Callable[[Sequence[Any], Sequence[Any]], dict[str, float]]
LABEL_SOURCES = {"reference": "label", "teacher": "teacher_label"}  # option -> field of `Example`
METHODS = (*views.METHODS, "label", "rationale")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillationTask:
    """A plain object: making one registers nothing. `tasks.definition.define_task` fills in the defaults.

    Metric functions take (targets, predictions) and postprocess functions (text, example=None,
    is_target=False), both as in SeqIO, and both serve SeqIO and our engine alike.

    Attributes:
      name: lower case, such as `svamp`.
      source: of the examples.
      label_metric_fns: of predicted labels.
      rationale_metric_fns: of predicted rationales, against the teacher's.
      rationale_label_fn: (rationale, example) -> the label that a rationale speaks for, or None.
      label_postprocess_fn: applied to targets and predictions before the metrics.
      label_prefix: put before the input of the label view.
      rationale_prefix: put before the input of the rationale view.
      classes: the labels there are, where they are few.
      rationale_rate: rationales for each label in what a student is trained on.
      main_metric: of the label metrics the one by which checkpoints and teachers are judged.

    Raises:
      UserError: for a rate that is not above 0.
    """

    name: str
    source: Source
    label_metric_fns: tuple[MetricFn, ...]
    rationale_metric_fns: tuple[MetricFn, ...]
    rationale_label_fn: Callable[[str, Example], str | None]
    label_postprocess_fn: Callable[..., Any] | None = None
    label_prefix: str = "[label] "
    rationale_prefix: str = "[rationale] "
    classes: tuple[str, ...] | None = None
    rationale_rate: float = 1.0
    main_metric: str = "accuracy"

    def __post_init__(self):
        if not self.rationale_rate > 0.0:
            raise UserError(f"task {self.name!r}: rationale_rate must be above 0, got {self.rationale_rate}")

    def located(self, data_dir: str | None = None, teacher: str | None = None) -> "DistillationTask":
        """The task whose source reads this data folder and this teacher; see `sources.located`."""
        if data_dir is None and teacher is None:
            return self
        return dataclasses.replace(self, source=located(self.source, data_dir, teacher))

    def score_labels(self, examples: Sequence[Example], predictions: Sequence[str | None]) -> dict[str, float]:
        """The label metrics over the examples that have a reference label; empty where none has one."""
        process = self.label_postprocess_fn or (lambda text, example, is_target: text)
        pairs = [
            (process(e.label, example=None, is_target=True), p)
            for e, p in zip(examples, predictions, strict=True)
            if e.label is not None
        ]
        scores: dict[str, float] = {}
        if not pairs:
            return scores
        targets = [target for target, _ in pairs]
        answers = [None if p is None else process(p, example=None, is_target=False) for _, p in pairs]
        for metric_fn in self.label_metric_fns:
            scores |= metric_fn(targets, answers)
        return scores

    def rationale_label(self, rationale: str, example: Example) -> str | None:
        """The label that a rationale speaks for; None where it speaks for none."""
        return self.rationale_label_fn(rationale, example)

    def agrees(self, example: Example) -> bool:
        """Whether the teacher's label is right: the same class, else by the task's main metric."""
        options = example.choices or self.classes or ()
        places = {place_of(label, options) for label in (example.label, example.teacher_label)}
        if -1 not in places:
            return len(places) == 1
        return bool(self.score_labels([example], [example.teacher_label]).get(self.main_metric))

    def views(self, method: str, label_source: str = "reference") -> tuple[View, ...]:
        """The views of a method, by its name in `METHODS`."""
        target = LABEL_SOURCES[label_source]
        label = View("label", target, self.label_prefix)
        rationale = View("rationale", "rationale", self.rationale_prefix, rate=self.rationale_rate)
        return {
            "standard": (View("label", target),),
            "task_distillation": (View("label", "teacher_label"),),
            "step_by_step": (label, rationale),
            views.SHARED: (
                View("label", target),
                View("rationale", "rationale", rate=self.rationale_rate, start=views.RATIONALE_START),
            ),
            "single_task": (View("single_task", "rationale", answer=target),),
            "rationale_input": (View("label", target, reads_rationale=True),),
            "soft_labels": (View("label", target, soft=True),),
            "logit_distillation": (label, rationale),
            "label": (label,),
            "rationale": (rationale,),
        }[method]
