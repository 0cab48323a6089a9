"""Examples to predictions, whatever the method: which views to decode, how to read them, how to rank labels."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from distill_jax.config import Decoding
from distill_jax.data.schema import Example
from distill_jax.data.views import ANSWER, TASK_IDS, View
from distill_jax.decoding.engine import Engine, Hypothesis, Score
from distill_jax.errors import UserError

LABEL_LENGTH = 64  # a label is never decoded further, however long rationales may be
LABEL_BY = ("generate", "rank", "constrain")
PREDICTED = {  # what `Prediction.row` adds to a row
    "predicted_label",
    "label_score",
    "label_confidence",
    "predicted_label_probs",
    "predicted_labels",
    "predicted_rationale",
    "rationale_score",
    "predicted_rationales",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """A text that was said or ranked, and its score."""

    text: str
    score: float


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction:
    """What a student says of one input; None where it was not asked.

    Attributes:
      label: the predicted label.
      label_score: what it was ranked by. Generated: the log-probability of the text that the label is
        read from (which under `single_task` holds the rationale too), over the length penalty for beams.
        Ranked: the mean log-probability of the label's tokens, or their sum. Constrained: that of the label
        among what could be written.
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
        fields = {
            "predicted_label": self.label,
            "label_score": self.label_score,
            "label_confidence": self.label_confidence,
            "predicted_label_probs": self.label_probs,
            "predicted_rationale": self.rationale,
            "rationale_score": self.rationale_score,
        }
        row: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
        for name, choices in (("predicted_labels", self.labels), ("predicted_rationales", self.rationales)):
            if len(choices) > 1:
                row[name] = [dataclasses.asdict(choice) for choice in choices]
        return row


@dataclasses.dataclass(frozen=True)
class Request:
    """What to predict, and how.

    Attributes:
      label: whether to predict the label.
      rationale: whether to predict the rationale.
      label_by: `generate`: the label is what the student writes. `rank`: it is that of the example's
        choices, or of the task's classes, which the student finds most likely. `constrain`: the label is
        what the student writes greedily where only these can be written.
      normalize_scores: rank by the mean log-probability of a label's tokens, not by their sum, which
        favours short labels.
      decoding: of what is generated.

    Raises:
      UserError: for an unknown `label_by`.
    """

    label: bool = True
    rationale: bool = False
    label_by: str = "generate"
    normalize_scores: bool = True
    decoding: Decoding = Decoding()

    def __post_init__(self):
        if self.label_by not in LABEL_BY:
            raise UserError(f"label_by: expected one of {', '.join(LABEL_BY)}, got {self.label_by!r}")


def needed_views(views: Sequence[View], request: Request, name: str) -> list[View]:
    """Those of a student's views that a request needs.

    Args:
      views: the student's.
      request: what is asked.
      name: of the student's task, for the message.

    Raises:
      UserError: when there is none for something that is asked, or a constrained label comes after a rationale.
    """
    kept = []
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
        if view not in kept:
            kept.append(view)
    return kept


def own_decoding(view: View, decoding: Decoding) -> Decoding:
    """The decoding with a seed of the view's own: the noise of a label must not be that of its rationale."""
    return dataclasses.replace(decoding, seed=decoding.seed ^ (TASK_IDS[view.name] * 0x9E3779B9 & 0xFFFFFFFF))


def check_examples(examples: Sequence[Example], request: Request, classes: Sequence[str] | None) -> None:
    """Raises UserError, naming the example, for labels to choose from where there are none."""
    if request.label and request.label_by != "generate" and not classes:
        lacking = next((example for example in examples if not example.choices), None)
        if lacking is not None:
            raise UserError(
                f"{lacking.id}: no labels to {request.label_by}: give `choices` in the row, or `classes` of "
                "the task"
            )


def output_length(view: View, targets_length: int) -> int:
    """Tokens that are decoded of a view at most, the end token included."""
    return min(targets_length, LABEL_LENGTH) if view.name == "label" else targets_length


def predict(
    engine: Engine,
    examples: Sequence[Example],
    views: Sequence[View],
    request: Request,
    *,
    targets_length: int,
    classes: Sequence[str] | None = None,
    streams: Sequence[int] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Prediction]:
    """Predictions in the order of the examples.

    Args:
      engine: the student.
      examples: of these only `input` counts, and `rationale` and `choices` where they are needed.
      views: of `needed_views`.
      request: what to predict, and how.
      targets_length: tokens of an output at most; labels stop at 64.
      classes: of the task, to rank where an example has no choices.
      streams: see `Engine.generate`.
      progress: called with (view name, texts done, texts).

    Raises:
      UserError: when an example lacks what it needs, see `check_examples`.
    """
    check_examples(examples, request, classes)
    fields: list[dict[str, Any]] = [{} for _ in examples]
    ranks = request.label and request.label_by == "rank"
    for view in views:
        is_label = view.name == "label"
        starts = None
        told = None if progress is None else lambda n, v=view: progress(v.name, n, len(examples))
        if is_label and request.label_by == "constrain":
            choices = [example.choices or classes or () for example in examples]
            chosen = engine.choose([view.inputs(example) for example in examples], choices, told)
            for of_example, labels, (number, score) in zip(fields, choices, chosen, strict=True):
                of_example |= _chosen(labels[number], score)
        elif not (is_label and ranks):
            generated = engine.generate(
                [view.inputs(example) for example in examples],
                output_length(view, targets_length),
                own_decoding(view, request.decoding),
                streams,
                told,
                view.start,
            )
            for of_example, hypotheses in zip(fields, generated, strict=True):
                of_example |= _read(view, hypotheses)
            if view.answer:
                starts = [f"{of_example['rationale']}{ANSWER}" for of_example in fields]
        if ranks and (is_label or view.answer):
            ranked = _rank(engine, examples, view, request, classes, starts)
            for of_example, labels in zip(fields, ranked, strict=True):
                of_example |= labels
    wanted = [name for name in ("label", "rationale") if getattr(request, name)]
    return [
        Prediction(**{k: v for k, v in of_example.items() if k.startswith(tuple(wanted))})
        for of_example in fields
    ]


def _read(view: View, hypotheses: Sequence[Hypothesis]) -> dict[str, Any]:
    """Fields of a `Prediction` that generated texts give."""
    fields: dict[str, Any] = {}
    said = [(view.read(hypothesis.text), hypothesis.score) for hypothesis in hypotheses]
    for name, text in said[0][0].items():
        fields |= {name: text, f"{name}_score": said[0][1]}
        fields[f"{name}s"] = tuple(Choice(texts.get(name, ""), score) for texts, score in said)
    if view.name == "label":
        fields["label_confidence"] = math.exp(min(hypotheses[0].log_prob, 0.0))
    return fields


def _chosen(label: str, score: float) -> dict[str, Any]:
    """Fields of a `Prediction` that a constrained label gives."""
    return {
        "label": label,
        "label_score": score,
        "label_confidence": math.exp(min(score, 0.0)),
        "labels": (Choice(label, score),),
    }


def _rank(
    engine: Engine,
    examples: Sequence[Example],
    view: View,
    request: Request,
    classes: Sequence[str] | None,
    starts: Sequence[str] | None,
) -> list[dict[str, Any]]:
    """Fields of a `Prediction` that ranked labels give; after `starts`, where the label comes last."""
    labels = [example.choices or classes or () for example in examples]
    targets = labels
    if starts is not None:
        targets = [[start + label for label in some] for start, some in zip(starts, labels, strict=True)]
    texts = [view.inputs(example) for example in examples]
    scored = engine.score(texts, targets, starts)
    return [ranking(some, s, request.normalize_scores) for some, s in zip(labels, scored, strict=True)]


def ranking(labels: Sequence[str], scores: Sequence[Score], normalize: bool) -> dict[str, Any]:
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
