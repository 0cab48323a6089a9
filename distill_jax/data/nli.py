"""Rows of natural language inference: premise, hypothesis, and a class by number."""

from collections.abc import Mapping
from typing import Any

from distill_jax.data.vocabularies import END

CLASSES = ("entailment", "neutral", "contradiction")


def read_row(row: Mapping[str, Any]) -> tuple[str, str]:
    """Row of ANLI or e-SNLI -> (input, label).

    Raises:
      KeyError: when a column is not there.
      ValueError: when the label is no class number.
      TypeError: when premise or hypothesis is no text.
    """
    label = row["label"]
    if label not in (0, 1, 2):
        raise ValueError(f"expected the label 0, 1 or 2, got {label!r}")
    return END.join([row["premise"], row["hypothesis"]]), CLASSES[label]
