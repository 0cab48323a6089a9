"""Scores a student on a split: predictions, the task's own metrics, the teacher beside them."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distill_jax.config import Decoding
from distill_jax.data.schema import Example
from distill_jax.data.task import DistillationTask
from distill_jax.data.views import View
from distill_jax.data.vocabularies import Vocabulary
from distill_jax.decoding.engine import Engine
from distill_jax.decoding.predict import Request, needed_views, predict
from distill_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Metrics by name, and the examples and a row for each in the order of the split."""

    metrics: dict[str, float]
    rows: list[dict[str, Any]]
    examples: list[Example]


def _score(metric_fns: Sequence[Callable], targets: list, predictions: list) -> dict[str, float]:
    scores: dict[str, float] = {}
    for metric_fn in metric_fns:
        scores |= metric_fn(targets, predictions)
    return scores


def read_split(task: DistillationTask, split: str, num_examples: int | None = None) -> list[Example]:
    """The examples of a split, or the first so many.

    Raises:
      UserError: when the task has no such split, or it is empty.
    """
    if split not in task.source.splits:
        raise UserError(f"task {task.name} has no split {split!r}: {', '.join(task.source.splits)}")
    examples = list(itertools.islice(task.source.examples(split), num_examples))
    if not examples:
        raise UserError(f"task {task.name}: split {split!r} is empty")
    return examples


def evaluate(
    params,
    model,
    vocabulary: Vocabulary,
    task: DistillationTask,
    views: Sequence[View],
    split: str,
    *,
    batch_size: int,
    task_feature_lengths: Mapping[str, int],
    decoding: Decoding = Decoding(),  # noqa: B008, frozen
    label_by: str = "generate",
    normalize_scores: bool = True,
    num_examples: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Evaluation:
    """Predicts labels and rationales of a split, as far as the views have them, and scores them.

    Args:
      params: of the model.
      model: a `models.t5.Transformer`.
      vocabulary: of both sides.
      task: gives the examples and the metric functions.
      views: what to predict: the student's views.
      split: of the task.
      batch_size: texts worked off at a time.
      task_feature_lengths: `{"inputs": …, "targets": …}`; labels stop at 64 tokens at most.
      decoding: of what is generated.
      label_by: see `predict.Request`.
      normalize_scores: see `predict.Request`.
      num_examples: the first so many; None for all.
      progress: called with (view name, texts done, texts).

    Returns:
      Metrics `label_<name>` and `rationale_<name>` by the task's metric functions, `teacher_<name>`
      for the teacher's own labels on the same examples, and `examples`.

    Raises:
      UserError: when the task has no such split, or it is empty, or has no labels to rank.
    """
    examples = read_split(task, split, num_examples)
    request = Request(
        label=any(view.name == "label" or view.answer for view in views),
        rationale=any(view.name == "rationale" or view.answer for view in views),
        label_by=label_by,
        normalize_scores=normalize_scores,
        decoding=decoding,
    )
    predictions = predict(
        Engine(params, model, vocabulary, task_feature_lengths["inputs"], batch_size),
        examples,
        needed_views(views, request, task.name),
        request,
        targets_length=task_feature_lengths["targets"],
        classes=task.classes,
        progress=progress,
    )
    rows = [dataclasses.asdict(e) | p.row() for e, p in zip(examples, predictions, strict=True)]
    metrics: dict[str, float] = {"examples": float(len(examples))}
    if request.label:
        labels = [prediction.label for prediction in predictions]
        metrics |= {f"label_{name}": value for name, value in task.score_labels(examples, labels).items()}
        for row, example, label in zip(rows, examples, labels, strict=True):
            score = None if example.label is None else task.score_labels([example], [label]).get("accuracy")
            if score is not None:
                row["correct"] = bool(score)
    if request.rationale:
        pairs = [
            (example.rationale, prediction.rationale)
            for example, prediction in zip(examples, predictions, strict=True)
            if example.rationale is not None
        ]
        scores = _score(task.rationale_metric_fns, [t for t, _ in pairs], [p for _, p in pairs])
        metrics |= {f"rationale_{name}": value for name, value in scores.items()}
    if any(example.teacher_label is not None for example in examples):
        teacher = task.score_labels(examples, [example.teacher_label for example in examples])
        metrics |= {f"teacher_{name}": value for name, value in teacher.items()}
    return Evaluation(metrics, rows, examples)


def make_evaluator(run: Any) -> Callable[[Any, str], dict[str, float]]:
    """What a trainer is handed to score its student with: `evaluator(params, split) -> metrics`.

    Args:
      run: a built run, of `training.build`.
    """

    def evaluator(params: Any, split: str) -> dict[str, float]:
        return evaluate(
            params,
            run.model,
            run.vocabulary,
            run.task,
            run.views,
            split,
            batch_size=4 * run.config.batch_size,
            task_feature_lengths=run.config.task_feature_lengths,
            num_examples=run.config.eval_examples,
        ).metrics

    return evaluator
