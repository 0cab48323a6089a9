"""Figures of each class: the confusion matrix, precision, recall and F1."""

from collections.abc import Sequence

import numpy as np

from distill_jax.data.labels import place_of


def confusion_matrix(
    targets: Sequence[str], predictions: Sequence[str | None], classes: Sequence[str]
) -> np.ndarray:
    """Counts of (target, prediction) pairs, each the class that it means; see `data.labels.place_of`.

    Args:
      targets: reference labels; those that are no class are left out.
      predictions: one of each.
      classes: in the order of rows and columns.

    Returns:
      int [classes, classes + 1]; the last column counts predictions that are no class.
    """
    counts = np.zeros((len(classes), len(classes) + 1), int)
    for target, prediction in zip(targets, predictions, strict=True):
        row, column = place_of(target, classes), place_of(prediction, classes)
        if row >= 0:
            counts[row, column] += 1  # -1 is the last column
    return counts


def class_report(counts: np.ndarray, classes: Sequence[str]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and support of each class, by the counts of `confusion_matrix`.

    A figure that is 0 of 0 counts as 0, as in scikit-learn.
    """
    report = {}
    for index, name in enumerate(classes):
        cells = counts[index, index], counts[:, index].sum(), counts[index].sum()
        right, predicted, support = map(int, cells)
        report[name] = {
            "precision": right / max(predicted, 1),
            "recall": right / max(support, 1),
            "f1": 2 * right / max(predicted + support, 1),
            "support": support,
        }
    return report
