"""What the rows of predictions tell beyond the task's own metrics."""

import math
from collections.abc import Sequence
from typing import Any

from distill_jax.data.schema import Example
from distill_jax.data.task import DistillationTask
from distill_jax.evaluation.evaluator import main_score_against
from distill_jax.evaluation.significance import share_interval
from distill_jax.scoring.calibration import expected_calibration_error
from distill_jax.scoring.classes import class_report, confusion_matrix


def summarize(
    task: DistillationTask, examples: Sequence[Example], rows: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Figures of a split's predictions; each only where the rows have what it needs.

    `rows` are those of `Evaluator.evaluate`, one of each example of the split.

    Returns:
      `label_<main metric>_interval`: [low, high], 95%, see `significance.share_interval`; where the main metric
        is the share of the right rows.
      `label_calibration_error`: see `calibration`.
      `rationale_agreement`: share of the rows whose predicted rationale speaks for a label, whose predicted
        label agrees with it; `rationale_agreement_rows` the share of the rows that this is about.
      `macro_f1`, `classes` and `confusion`, of a task with classes: see `classes`.
    """
    figures: dict[str, Any] = {}
    if not all("predicted_label" in row for row in rows):
        return figures
    labels = [row["predicted_label"] for row in rows]
    judged = [row for row in rows if "correct" in row]
    if judged:
        correct = [row["correct"] for row in judged]
        scores = task.score_labels(examples, labels)
        name = task.main_name(scores)
        if math.isclose(scores[name], sum(correct) / len(correct)):
            figures[f"label_{name}_interval"] = list(share_interval(sum(correct), len(correct)))
        if all("label_confidence" in row for row in judged):
            stated = [row["label_confidence"] for row in judged]
            figures["label_calibration_error"] = expected_calibration_error(stated, correct)
    if all("predicted_rationale" in row for row in rows):
        rationales = [row["predicted_rationale"] for row in rows]
        spoken = list(map(task.rationale_label_fn, rationales, examples))
        figures["rationale_agreement_rows"] = sum(label is not None for label in spoken) / len(rows)
        agreement = main_score_against(task, examples, spoken, labels)
        figures |= {} if agreement is None else {"rationale_agreement": agreement}
    if task.classes and any(example.label is not None for example in examples):
        figures |= _class_figures(task, examples, labels)
    return figures


def _class_figures(
    task: DistillationTask, examples: Sequence[Example], labels: Sequence[str]
) -> dict[str, Any]:
    process = task.label_postprocess_fn or (lambda text, example, is_target: text)
    pairs = [
        (process(e.label, example=None, is_target=True), process(label, example=None, is_target=False))
        for e, label in zip(examples, labels, strict=True)
        if e.label is not None
    ]
    counts = confusion_matrix([t for t, _ in pairs], [p for _, p in pairs], task.classes)
    report = class_report(counts, task.classes)
    return {
        "classes": report,
        "macro_f1": sum(each["f1"] for each in report.values()) / len(task.classes),
        "confusion": counts.tolist(),
    }
