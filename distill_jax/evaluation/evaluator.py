"""Scores a student on a split: predictions, the task's own metrics, the teacher beside them."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from distill_jax.data.schema import Example
from distill_jax.data.task import DistillationTask
from distill_jax.decoding.engine import Engine
from distill_jax.decoding.engine_base import BaseEngine
from distill_jax.decoding.predict import Prediction, Request, needed_views, predict
from distill_jax.errors import UserError

Texts = Sequence[str | None]


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


def scored_split(task: DistillationTask, split: str) -> str:
    """The split whose rows are scored as `split`: validation, where its rows stand in for a test split."""
    source = task.source
    if split != "test" or not {"test", "validation"}.issubset(source.splits):
        return split
    rows = source.size("test")
    stands_in = (
        rows and rows == source.size("validation") and source.where("test", 0) == source.where("validation", 0)
    )
    return "validation" if stands_in else split


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Scores parameters on a split: `evaluator(params, split) -> metrics`. This is what a trainer is handed.

    Attributes:
      student: a `decoding.student.Student`, or a run that `training.build` has built.
      batch_size: examples per batch.
      request: how labels are found and texts decoded; which of them is predicted, the student's views decide.
      num_examples: the first so many of a split; None for all.
    """

    student: Any
    batch_size: int
    request: Request = Request()
    num_examples: int | None = None

    def __call__(self, params: Any, split: str) -> dict[str, float]:
        """The metrics of `evaluate`."""
        return self.evaluate(params, split).metrics

    def evaluate(self, params: Any, split: str) -> Evaluation:
        """As `evaluate_engine`, of the engine that computes with these parameters in JAX."""
        student = self.student
        engine = Engine(params, student.model, student.vocabulary, student.lengths["inputs"], self.batch_size)
        return self.evaluate_engine(engine, split)

    def evaluate_engine(self, engine: BaseEngine, split: str) -> Evaluation:
        """Predicts labels and rationales of a split, as far as the views have them, and scores them.

        Returns:
          Metrics `label_<name>` and `rationale_<name>` by the task's metric functions, `teacher_<name>` for the
          teacher's own labels on the same examples, `teacher_agreement`, the main metric of the predictions
          with the teacher's labels as reference, and `examples`. A metric over no example is absent.

        Raises:
          UserError: when the task has no such split, or it is empty, or has no labels to rank, or the engine
            refuses the request.
        """
        student, task = self.student, self.student.task
        engine.check(self.request.decoding, self.request.label_by)
        examples = read_split(task, split, self.num_examples)
        wanted = {
            name: any(view.name == name or view.answer for view in student.views)
            for name in ("label", "rationale")
        }
        request = dataclasses.replace(self.request, **wanted)
        views = needed_views(student.views, request, task.name)
        limits = {"targets_length": student.lengths["targets"], "classes": task.classes}
        predictions = predict(engine, examples, views, request, **limits)
        rows = [dataclasses.asdict(e) | p.row() for e, p in zip(examples, predictions, strict=True)]
        metrics: dict[str, float] = {"examples": float(len(examples))}
        if request.label:
            labels = [prediction.label for prediction in predictions]
            for row, example, label in zip(rows, examples, labels, strict=True):
                right = task.is_right(example, label)
                row |= {} if right is None else {"correct": right}
                if right is not None and example.teacher_label is not None:
                    row["teacher_correct"] = task.is_right(example, example.teacher_label)
            metrics |= _named("label", task.score_labels(examples, labels))
            agreement = main_score_against(task, examples, [e.teacher_label for e in examples], labels)
            metrics |= {} if agreement is None else {"teacher_agreement": agreement}
        if request.rationale:
            metrics |= _rationale_metrics(task, examples, predictions)
        if any(example.teacher_label is not None for example in examples):
            teacher = task.score_labels(examples, [example.teacher_label for example in examples])
            metrics |= _named("teacher", teacher)
        return Evaluation(metrics, rows, examples)


def _rationale_metrics(
    task: DistillationTask, examples: Sequence[Example], predictions: Sequence[Prediction]
) -> dict[str, float]:
    both = [(e.rationale, p.rationale) for e, p in zip(examples, predictions, strict=True)]
    pairs = [(target, answer) for target, answer in both if target is not None]
    scores: dict[str, float] = {}
    for metric_fn in task.rationale_metric_fns if pairs else ():
        scores |= metric_fn(*zip(*pairs, strict=True))
    return _named("rationale", scores)


def _named(of: str, scores: Mapping[str, float]) -> dict[str, float]:
    return {f"{of}_{name}": value for name, value in scores.items()}


def main_score_against(
    task: DistillationTask, examples: Sequence[Example], references: Texts, predictions: Texts
) -> float | None:
    """The main metric of predictions with other texts as reference labels; None where all of these are None."""
    replaced = [dataclasses.replace(e, label=label) for e, label in zip(examples, references, strict=True)]
    return task.main_score(replaced, predictions)


def make_evaluator(run: Any) -> Evaluator:
    """What a trainer is handed to score its student with, of a run that `training.build` has built."""
    return Evaluator(run, 4 * run.config.batch_size, num_examples=run.config.eval_examples)
