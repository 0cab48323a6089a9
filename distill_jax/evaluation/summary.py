"""What a row of predictions tells beyond the task's own metrics."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from distill_jax.data.schema import Example
from distill_jax.data.task import DistillationTask
from distill_jax.evaluation.significance import RESAMPLES, accuracy_interval
from distill_jax.scoring.calibration import expected_calibration_error
from distill_jax.scoring.classes import class_report, confusion_matrix


def _agreement(
    task: DistillationTask,
    examples: Sequence[Example],
    labels: Sequence[str | None],
    predictions: Sequence[str],
) -> float | None:
    """The metric `accuracy` of the predictions, were `labels` gold; None where the task has no such."""
    replaced = [dataclasses.replace(e, label=label) for e, label in zip(examples, labels, strict=True)]
    return task.score_labels(replaced, predictions).get("accuracy")


def summarize(
    task: DistillationTask,
    examples: Sequence[Example],
    rows: Sequence[dict[str, Any]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Figures of a split's predictions; each only where the rows have what it needs.

    Args:
      task: of the examples.
      examples: of the split.
      rows: of `evaluator.evaluate`, one of each example.
      resamples: bootstrap samples of the interval.
      seed: of these.

    Returns:
      `label_accuracy_interval`: [low, high], 95% percentile bootstrap.
      `label_calibration_error`: see `calibration`.
      `teacher_agreement`: share of the rows with a teacher's label whose prediction agrees with it.
      `rationale_agreement`: share of the rows whose predicted rationale speaks for a label, whose predicted
        label agrees with it; `rationale_agreement_rows` the share of the rows that this is about.
      `macro_f1`, `classes` and `confusion`, of a task with classes: see `classes`.
    """
    figures: dict[str, Any] = {}
    judged = [row for row in rows if "correct" in row]
    if judged:
        correct = [row["correct"] for row in judged]
        figures["label_accuracy_interval"] = list(accuracy_interval(correct, resamples=resamples, seed=seed))
        if all("label_confidence" in row for row in judged):
            stated = [row["label_confidence"] for row in judged]
            figures["label_calibration_error"] = expected_calibration_error(stated, correct)
    if not all("predicted_label" in row for row in rows):
        return figures
    labels = [row["predicted_label"] for row in rows]
    if any(example.teacher_label is not None for example in examples):
        agreement = _agreement(task, examples, [example.teacher_label for example in examples], labels)
        figures |= {} if agreement is None else {"teacher_agreement": agreement}
    if all("predicted_rationale" in row for row in rows):
        spoken = [
            task.rationale_label(row["predicted_rationale"], example)
            for row, example in zip(rows, examples, strict=True)
        ]
        share = sum(label is not None for label in spoken) / len(rows)
        agreement = _agreement(task, examples, spoken, labels)
        if agreement is not None:
            figures["rationale_agreement_rows"] = share
            if share:
                figures["rationale_agreement"] = agreement
    if task.classes and judged:
        process = task.label_postprocess_fn or (lambda text, example, is_target: text)
        pairs = [
            (process(e.label, example=None, is_target=True), process(label, example=None, is_target=False))
            for e, label in zip(examples, labels, strict=True)
            if e.label is not None
        ]
        counts = confusion_matrix([t for t, _ in pairs], [p for _, p in pairs], task.classes)
        figures["classes"] = class_report(counts, task.classes)
        figures["macro_f1"] = sum(each["f1"] for each in figures["classes"].values()) / len(task.classes)
        figures["confusion"] = counts.tolist()
    return figures
