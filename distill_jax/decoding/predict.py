"""Examples to predictions, whatever the method: which views to decode, how to read them, how to rank labels."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from distill_jax.config import Decoding, TrainConfig
from distill_jax.config.data import column_flag
from distill_jax.data.schema import Example
from distill_jax.data.views import ANSWER, TASK_IDS, View
from distill_jax.decoding.engine_base import BaseEngine, Hypothesis, Score
from distill_jax.errors import UserError

LABEL_BY = ("generate", "rank", "constrain")
_NAMES = {  # fields of `Prediction` -> their names in a row of a predictions file, in this order
    "label": "predicted_label",
    "label_score": "label_score",
    "label_confidence": "label_confidence",
    "label_probs": "predicted_label_probs",
    "rationale": "predicted_rationale",
    "rationale_score": "rationale_score",
    "labels": "predicted_labels",
    "rationales": "predicted_rationales",
}
PREDICTED = set(_NAMES.values())  # what `Prediction.row` adds to a row


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """A text that was generated or ranked, and its score."""

    text: str
    score: float


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction:
    """What a student predicts for one input; None where it was not asked.

    Attributes:
      label: the predicted label.
      label_score: what it was ranked by. Generated: the log-probability of the text that the label is
        read from (which under `single_task` holds the rationale too), over the length penalty for beams.
        Ranked: the sum of the log-probabilities of the label's tokens, or their mean. Constrained: the
        log-probability of the label among what could be written.
      label_confidence: probability of the label: of its text where it is generated alone, its share of
        `label_probs` where it is ranked, that of `label_score` where it is constrained.
      label_probs: where labels are ranked: the student's probability of each, given that it is one of them.
      labels: the n best labels that were generated, or all that were ranked, `label` first.
      rationale: the predicted rationale.
      rationale_score: log-probability of its text, over the length penalty for beams.
      rationales: the n best with their scores.
    """

    label: str | None = None
    label_score: float | None = None
    label_confidence: float | None = None
    label_probs: dict[str, float] | None = None
    labels: tuple[Choice, ...] = ()
    rationale: str | None = None
    rationale_score: float | None = None
    rationales: tuple[Choice, ...] = ()

    def row(self) -> dict[str, Any]:
        """As a row of a predictions file: `predicted_label` and so on; lists only of more than one."""
        row: dict[str, Any] = {}
        for field, name in _NAMES.items():
            value = getattr(self, field)
            if isinstance(value, tuple):
                value = [dataclasses.asdict(choice) for choice in value] if len(value) > 1 else None
            row |= {} if value is None else {name: value}
        return row


@dataclasses.dataclass(frozen=True)
class Request:
    """What to predict, and how.

    Attributes:
      label, rationale: whether to predict it.
      label_by: `generate`: the label is what the student writes. `rank`: it is that of the example's
        choices, or of the task's classes, which the student finds most likely. `constrain`: the label is
        what the student writes greedily where only these can be written.
      normalize_scores: rank by the mean of the log-probabilities of a label's tokens. The default is their
        sum, the log-probability of the label itself; the mean leans to long labels.
      decoding: of what is generated.

    Raises:
      UserError: for an unknown `label_by`.
    """

    label: bool = True
    rationale: bool = False
    label_by: str = "generate"
    normalize_scores: bool = False
    decoding: Decoding = Decoding()

    def __post_init__(self):
        if self.label_by not in LABEL_BY:
            raise UserError(f"label_by: expected one of {', '.join(LABEL_BY)}, got {self.label_by!r}")


def needed_views(views: Sequence[View], request: Request, name: str) -> list[View]:
    """Those of a student's views that a request needs.

    Raises:
      UserError: naming the task, when there is none for something that is asked, or a constrained label comes
        after a rationale.
    """
    needed = []
    for wanted in ("label", "rationale"):
        if not getattr(request, wanted):
            continue
        view = next((view for view in views if view.name == wanted or view.answer), None)
        if view is None:
            raise UserError(
                f"a student of {name} predicts no {wanted}: step_by_step trains label and rationale"
            )
        if wanted == "label" and request.label_by == "constrain" and view.answer:
            raise UserError(
                f"a student of {name} writes a rationale before the label: label_by constrain is for labels "
                "alone, rank is for these too"
            )
        if view not in needed:
            needed.append(view)
    return needed


def own_decoding(view: View, decoding: Decoding) -> Decoding:
    """The decoding with a seed of the view's own: a label must not share the noise of its rationale."""
    return dataclasses.replace(decoding, seed=decoding.seed ^ (TASK_IDS[view.name] * 0x9E3779B9 & 0xFFFFFFFF))


def check_examples(examples: Sequence[Example], request: Request, classes: Sequence[str] | None) -> None:
    """Raises UserError, naming the example, for labels to choose from where there are none."""
    if request.label and request.label_by != "generate" and not classes:
        lacking = next((example for example in examples if not example.choices), None)
        if lacking is not None:
            classes_flag, column = TrainConfig.named("classes"), column_flag("choices")
            raise UserError(
                f"{lacking.id}: no labels to {request.label_by}: the student's task has no classes: name them "
                f"with {classes_flag} of `train`, or give `choices` in each row, in the column that "
                f"{column} of `train` and `infer` names"
            )


def predict(
    engine: BaseEngine,
    examples: Sequence[Example],
    views: Sequence[View],
    request: Request,
    *,
    targets_length: int,
    classes: Sequence[str] | None = None,
    streams: Sequence[int] | None = None,
) -> list[Prediction]:
    """Predictions in the order of the examples.

    Args:
      examples: of these only `input` counts, and `rationale` and `choices` where they are needed.
      views: of `needed_views`.
      targets_length: tokens of an output at most, the end token included.
      classes: of the task, to rank where an example has no choices.
      streams: see `Engine.generate`.

    Raises:
      UserError: when an example lacks what it needs, see `check_examples`.
    """
    check_examples(examples, request, classes)
    labels = [example.choices or classes or () for example in examples]
    fields: list[dict[str, Any]] = [{} for _ in examples]

    def update(new: Iterable[Mapping[str, Any]]) -> None:
        for of_example, more in zip(fields, new, strict=True):
            of_example |= more

    for view in views:
        texts = [view.inputs(example) for example in examples]
        gives_label = view.name == "label"
        by = request.label_by if request.label and (gives_label or view.answer) else "generate"
        if by == "constrain":
            chosen = engine.choose(texts, labels)
            update(_chosen(some[n], score) for some, (n, score) in zip(labels, chosen, strict=True))
        elif by == "generate" or view.answer:
            decoding = own_decoding(view, request.decoding)
            generated = engine.generate(texts, targets_length, decoding, streams, view.start)
            update(_read(view, hypotheses) for hypotheses in generated)
        if by == "rank":
            starts, targets = None, labels
            if view.answer:  # the label comes after the rationale
                starts = [f"{of_example['rationale']}{ANSWER}" for of_example in fields]
                pairs = zip(starts, labels, strict=True)
                targets = [[start + label for label in some] for start, some in pairs]
            scored = zip(labels, engine.score(texts, targets, starts), strict=True)
            update(ranking(some, scores, request.normalize_scores) for some, scores in scored)
    wanted = tuple(name for name in ("label", "rationale") if getattr(request, name))
    return [
        Prediction(**{k: v for k, v in of_example.items() if k.startswith(wanted)}) for of_example in fields
    ]


def _read(view: View, hypotheses: Sequence[Hypothesis]) -> dict[str, Any]:
    """Fields of a `Prediction` that generated texts give."""
    fields: dict[str, Any] = {}
    parsed = [(view.read(hypothesis.text), hypothesis.score) for hypothesis in hypotheses]
    for name, text in parsed[0][0].items():
        fields |= {name: text, f"{name}_score": parsed[0][1]}
        fields[f"{name}s"] = tuple(Choice(texts.get(name, ""), score) for texts, score in parsed)
    if view.name == "label":
        fields["label_confidence"] = math.exp(min(hypotheses[0].log_prob, 0.0))
    return fields


def _chosen(label: str, score: float) -> dict[str, Any]:
    """Fields of a `Prediction` that a constrained label gives."""
    confidence = math.exp(min(score, 0.0))
    choices = (Choice(label, score),)
    return {"label": label, "label_score": score, "label_confidence": confidence, "labels": choices}


def ranking(labels: Sequence[str], scores: Sequence[Score], normalize: bool = False) -> dict[str, Any]:
    """Fields of a `Prediction` from the scores of some labels.

    The probabilities are a softmax over the sums of log-probabilities, whatever the ranking is by: they are
    the student's own distribution over texts, given that the text is one of these labels.
    """
    sums = np.array([score.log_prob for score in scores])
    ranked_by = sums / [max(score.tokens, 1) for score in scores] if normalize else sums
    probs = np.exp(sums - sums.max())
    probs /= probs.sum()
    order = np.argsort(-ranked_by, kind="stable")
    best = int(order[0])
    return {
        "label": labels[best],
        "label_score": float(ranked_by[best]),
        "label_confidence": float(probs[best]),
        "label_probs": {label: float(p) for label, p in zip(labels, probs, strict=True)},
        "labels": tuple(Choice(labels[i], float(ranked_by[i])) for i in order),
    }
