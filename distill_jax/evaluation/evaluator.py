"""Scores a student on a split: predictions, the task's own metrics, the teacher beside them."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from distill_jax.config import Decoding
from distill_jax.data.schema import Example
from distill_jax.data.task import DistillationTask
from distill_jax.data.views import View
from distill_jax.data.vocabularies import Vocabulary
from distill_jax.decoding.engine import Engine
from distill_jax.decoding.predict import Prediction, Request, needed_views, predict
from distill_jax.decoding.student import Student
from distill_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Metrics by name, and the examples and a row for each in the order of the split."""

    metrics: dict[str, float]
    rows: list[dict[str, Any]]
    examples: list[Example]


def read_split(task: DistillationTask, split: str, num_examples: int | None = None) -> list[Example]:
    """The examples of a split, or the first `num_examples`.

    Raises:
      UserError: when the task has no such split, or it is empty.
    """
    if split not in task.source.splits:
        raise UserError(f"task {task.name} has no split {split!r}: {', '.join(task.source.splits)}")
    examples = list(itertools.islice(task.source.examples(split), num_examples))
    if not examples:
        raise UserError(f"task {task.name}: split {split!r} is empty")
    return examples


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Scores parameters on a split: `evaluator(params, split) -> metrics`. This is what a trainer is handed.

    Attributes:
      model: a `models.t5.Transformer`.
      vocabulary: of both sides.
      task: gives the examples and the metric functions.
      views: what to predict: the student's views.
      task_feature_lengths: `{"inputs": …, "targets": …}` in tokens.
      batch_size: examples per batch.
      decoding: of what is generated.
      label_by, normalize_scores: see `predict.Request`.
      num_examples: the first so many of a split; None for all.
    """

    model: Any
    vocabulary: Vocabulary
    task: DistillationTask
    views: Sequence[View]
    task_feature_lengths: Mapping[str, int]
    batch_size: int
    decoding: Decoding = Decoding()
    label_by: str = "generate"
    normalize_scores: bool = False
    num_examples: int | None = None

    @classmethod
    def of(cls, student: Student, **settings: Any) -> "Evaluator":
        """The evaluator of a trained student; `settings` are the other attributes, or replace the student's."""
        own = {name: getattr(student, name) for name in ("model", "vocabulary", "task", "views")}
        return cls(**{**own, "task_feature_lengths": student.lengths, **settings})

    def __call__(self, params: Any, split: str) -> dict[str, float]:
        """The metrics of `evaluate`."""
        return self.evaluate(params, split).metrics

    def evaluate(self, params: Any, split: str) -> Evaluation:
        """Predicts labels and rationales of a split, as far as the views have them, and scores them.

        Returns:
          Metrics `label_<name>` and `rationale_<name>` by the task's metric functions, `teacher_<name>` for the
          teacher's own labels on the same examples, `teacher_agreement`, the main metric of the predictions
          with the teacher's labels as reference, and `examples`. A metric over no example is absent.

        Raises:
          UserError: when the task has no such split, or it is empty, or has no labels to rank.
        """
        examples = read_split(self.task, split, self.num_examples)
        request = Request(
            label=any(view.name == "label" or view.answer for view in self.views),
            rationale=any(view.name == "rationale" or view.answer for view in self.views),
            label_by=self.label_by,
            normalize_scores=self.normalize_scores,
            decoding=self.decoding,
        )
        predictions = predict(
            Engine(params, self.model, self.vocabulary, self.task_feature_lengths["inputs"], self.batch_size),
            examples,
            needed_views(self.views, request, self.task.name),
            request,
            targets_length=self.task_feature_lengths["targets"],
            classes=self.task.classes,
        )
        rows = [dataclasses.asdict(e) | p.row() for e, p in zip(examples, predictions, strict=True)]
        metrics: dict[str, float] = {"examples": float(len(examples))}
        if request.label:
            labels = [prediction.label for prediction in predictions]
            for row, example, label in zip(rows, examples, labels, strict=True):
                right = self.task.is_right(example, label)
                row |= {} if right is None else {"correct": right}
            metrics |= _named("label", self.task.score_labels(examples, labels))
            agreement = main_score_against(self.task, examples, [e.teacher_label for e in examples], labels)
            metrics |= {} if agreement is None else {"teacher_agreement": agreement}
        if request.rationale:
            metrics |= self._rationale_metrics(examples, predictions)
        if any(example.teacher_label is not None for example in examples):
            teacher = self.task.score_labels(examples, [example.teacher_label for example in examples])
            metrics |= _named("teacher", teacher)
        return Evaluation(metrics, rows, examples)

    def _rationale_metrics(
        self, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> dict[str, float]:
        pairs = [
            (example.rationale, prediction.rationale)
            for example, prediction in zip(examples, predictions, strict=True)
            if example.rationale is not None
        ]
        scores: dict[str, float] = {}
        for metric_fn in self.task.rationale_metric_fns if pairs else ():
            scores |= metric_fn(*zip(*pairs, strict=True))
        return _named("rationale", scores)


def _named(of: str, scores: Mapping[str, float]) -> dict[str, float]:
    return {f"{of}_{name}": value for name, value in scores.items()}


def main_score_against(
    task: DistillationTask,
    examples: Sequence[Example],
    references: Sequence[str | None],
    predictions: Sequence[str | None],
) -> float | None:
    """The main metric of predictions with other texts as reference labels; None where all of these are None."""
    replaced = [dataclasses.replace(e, label=label) for e, label in zip(examples, references, strict=True)]
    return task.main_score(replaced, predictions)


def make_evaluator(run: Any) -> Evaluator:
    """What a trainer is handed to score its student with, of a run that `training.build` has built."""
    config = run.config
    return Evaluator.of(run, batch_size=4 * config.batch_size, num_examples=config.eval_examples)
