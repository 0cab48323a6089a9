"""A task: where its examples come from, how a student sees them, and how answers are scored."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distill_jax.data import views
from distill_jax.data.labels import meant, place_of, same
from distill_jax.data.schema import Example
from distill_jax.data.sources import Source, located
from distill_jax.data.views import View
from distill_jax.errors import UserError

MetricFn = Callable[[Sequence[Any], Sequence[Any]], dict[str, float]]
LABEL_SOURCES = {"reference": "label", "teacher": "teacher_label"}  # option -> field of `Example`
METHODS = (*views.METHODS, "label", "rationale")
VIEW_MEANS = ("loss", "token_accuracy")  # `label_loss` and so on are the trainer's, and no label metrics


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
      main_metric: name of the label metric by which the best checkpoint and the right rows are chosen; see
        `main_name` for its default.

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
    main_metric: str | None = None

    def __post_init__(self):
        if not self.rationale_rate > 0.0:
            raise UserError(f"task {self.name!r}: rationale_rate must be above 0, got {self.rationale_rate}")

    def located(self, data_dir: str | None = None, teacher: str | None = None) -> "DistillationTask":
        """The task whose source reads this data folder and this teacher; see `sources.located`."""
        if data_dir is None and teacher is None:
            return self
        return dataclasses.replace(self, source=located(self.source, data_dir, teacher))

    def score_labels(self, examples: Sequence[Example], predictions: Sequence[str | None]) -> dict[str, float]:
        """The label metrics over the examples that have a reference label; empty where none has one.

        A label that means a class, or one of the row's choices, is scored as that; see `labels.place_of`.
        """
        process = self.label_postprocess_fn or (lambda text, example, is_target: text)

        def read(example: Example, text: str | None, is_target: bool) -> Any:
            if text is None:
                return None
            text = meant(text, example.choices or self.classes or ()) or text
            return process(text, example=None, is_target=is_target)

        pairs = [(e, p) for e, p in zip(examples, predictions, strict=True) if e.label is not None]
        if not pairs:
            return {}
        targets = [read(e, e.label, True) for e, _ in pairs]
        answers = [read(e, p, False) for e, p in pairs]
        scores: dict[str, float] = {}
        for metric_fn in self.label_metric_fns:
            scores |= metric_fn(targets, answers)
        return scores

    def main_name(self, scores: Mapping[str, float]) -> str | None:
        """The main one of some label metrics: `main_metric`, else `accuracy`, else the first; None of none.

        Raises:
          UserError: when the metric functions give no metric of the name `main_metric`.
        """
        if self.main_metric is None:
            return "accuracy" if "accuracy" in scores else next(iter(scores), None)
        if scores and self.main_metric not in scores:
            raise UserError(
                f"task {self.name}: main_metric {self.main_metric!r} is none of its metrics {', '.join(scores)}"
            )
        return self.main_metric if scores else None

    def main_score(self, examples: Sequence[Example], predictions: Sequence[str | None]) -> float | None:
        """The main metric of some predictions; None where no example has a reference label."""
        scores = self.score_labels(examples, predictions)
        name = self.main_name(scores)
        return None if name is None else float(scores[name])

    def is_right(self, example: Example, prediction: str | None) -> bool | None:
        """Whether a prediction scores as the reference label itself does, by the main metric of this row.

        None where that cannot be told: without a reference label, and for a metric that has no value on a
        single row (nan or ValueError, such as a correlation's) or gives the reference label itself 0.
        """
        try:
            score, best = (self.main_score([example], [text]) for text in (prediction, example.label))
        except ValueError:
            return None
        if score is None or not best or math.isnan(best):
            return None
        return score == best

    def agrees(self, example: Example) -> bool:
        """Whether the teacher's label is right: the same class, else by `is_right`, else by its text."""
        label, answer = example.label, example.teacher_label
        if label is None or answer is None:
            return False
        options = example.choices or self.classes or ()
        places = {place_of(text, options) for text in (label, answer)}
        if -1 not in places:
            return len(places) == 1
        right = self.is_right(example, answer)
        return same(label, answer) if right is None else right

    def best_by(self, metrics: Mapping[str, float]) -> tuple[str, float] | None:
        """The metric that a checkpoint is chosen by, and its value as a score: larger is better; None of none.

        That is the main label metric; without reference labels the agreement with the teacher; without both
        the validation loss, of the labels where they have one, which as a score is negative. The `metrics` are
        those of `evaluation.evaluator.Evaluator`, and the trainer's `<view>_loss` beside them.
        """
        labels = {
            name.removeprefix("label_"): value
            for name, value in metrics.items()
            if name.startswith("label_") and name.removeprefix("label_") not in VIEW_MEANS
        }
        if main := self.main_name(labels):
            return f"label_{main}", float(labels[main])
        if "teacher_agreement" in metrics:
            return "teacher_agreement", float(metrics["teacher_agreement"])
        losses = sorted(name for name in metrics if name.endswith("_loss"))
        name = "label_loss" if "label_loss" in losses else next(iter(losses), None)
        return None if name is None else (name, -float(metrics[name]))

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
