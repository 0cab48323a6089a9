"""Scores a student on a split: each view decoded, the task's own metrics, the teacher beside them."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distill_jax.data.registry import DistillationTask
from distill_jax.data.views import View
from distill_jax.data.vocabularies import Vocabulary
from distill_jax.errors import UserError
from distill_jax.evaluation.decoder import decode_texts

LABEL_LENGTH = 64  # a label is never decoded further, however long rationales may be


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Metrics by name, and a row for each example in the order of the split."""

    metrics: dict[str, float]
    rows: list[dict[str, Any]]


def _score(metric_fns: Sequence[Callable], targets: list, predictions: list) -> dict[str, float]:
    scores: dict[str, float] = {}
    for metric_fn in metric_fns:
        scores |= metric_fn(targets, predictions)
    return scores


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
    num_beams: int = 1,
    num_examples: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Evaluation:
    """Decodes a split and scores it.

    Args:
      params: of the model.
      model: a `models.t5.Transformer`.
      vocabulary: of both sides.
      task: gives the examples and the metric functions.
      views: what to decode: the student's views.
      split: of the task.
      batch_size: texts decoded at a time.
      task_feature_lengths: `{"inputs": …, "targets": …}`; labels stop at 64 tokens at most.
      num_beams: 1 is greedy.
      num_examples: the first so many; None for all.
      progress: called with (view name, texts done, texts).

    Returns:
      Metrics `label_<name>` and `rationale_<name>` by the task's metric functions, `teacher_<name>`
      for the teacher's own labels on the same examples, and `examples`.

    Raises:
      UserError: when the task has no such split, or it is empty.
    """
    if split not in task.source.splits:
        raise UserError(f"task {task.name} has no split {split!r}: {', '.join(task.source.splits)}")
    examples = list(itertools.islice(task.source.examples(split), num_examples))
    if not examples:
        raise UserError(f"task {task.name}: split {split!r} is empty")
    rows: list[dict[str, Any]] = [dataclasses.asdict(example) for example in examples]
    metrics: dict[str, float] = {"examples": float(len(examples))}
    for view in views:
        targets_length = task_feature_lengths["targets"]
        decoded = decode_texts(
            params,
            model,
            vocabulary,
            [view.inputs(example) for example in examples],
            batch_size=batch_size,
            inputs_length=task_feature_lengths["inputs"],
            targets_length=min(targets_length, LABEL_LENGTH) if view.name == "label" else targets_length,
            num_beams=num_beams,
            progress=None if progress is None else lambda n, v=view: progress(v.name, n, len(rows)),
        )
        for row, (text, score) in zip(rows, decoded, strict=True):
            said = view.read(text)
            row |= {f"predicted_{name}": part for name, part in said.items()}
            row[f"{view.name}_score"] = score
    if all("predicted_label" in row for row in rows):
        scores = task.score_labels(examples, [row["predicted_label"] for row in rows])
        metrics |= {f"label_{name}": value for name, value in scores.items()}
    if all("predicted_rationale" in row for row in rows):
        pairs = [
            (e.rationale, row["predicted_rationale"])
            for e, row in zip(examples, rows, strict=True)
            if e.rationale is not None
        ]
        scores = _score(task.rationale_metric_fns, [t for t, _ in pairs], [p for _, p in pairs])
        metrics |= {f"rationale_{name}": value for name, value in scores.items()}
    if any(example.teacher_label is not None for example in examples):
        teacher = task.score_labels(examples, [example.teacher_label for example in examples])
        metrics |= {f"teacher_{name}": value for name, value in teacher.items()}
    for row, example in zip(rows, examples, strict=True):
        if example.label is not None and "predicted_label" in row:
            scores = task.score_labels([example], [row["predicted_label"]])
            row["correct"] = bool(scores.get("accuracy"))
    return Evaluation(metrics, rows)
