"""How unsure a student is of a row, from what it gives its labels; and the rows it is least sure of."""

import heapq
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple


def least_confidence(probs: Sequence[float]) -> float:
    """1 minus the probability of the likeliest label; in [0, 1)."""
    return 1.0 - max(probs)


def margin(probs: Sequence[float]) -> float:
    """1 minus the lead of the likeliest label over the next (Scheffer et al. 2001); in [0, 1]."""
    best, *others = heapq.nlargest(2, probs)
    return 1.0 - best + (others[0] if others else 0.0)


def entropy(probs: Sequence[float]) -> float:
    """Entropy of the labels in nats; from 0 to the logarithm of their number."""
    return math.fsum(-p * math.log(p) for p in probs if p > 0.0)


# Measures over the probabilities of a row's labels, larger where the student is less sure.
MEASURES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "least-confidence": least_confidence,
    "margin": margin,
    "entropy": entropy,
}
LOG_PROB = "log-prob"  # of the text that the student writes, where there are no labels to rank


class Unsure(NamedTuple):
    """A row and how unsure the student is of it.

    Attributes:
      uncertainty: by the measure; larger is less sure.
      id: of the row.
      label: that the student predicts.
    """

    uncertainty: float
    id: str
    label: str


def least_sure(rows: Iterable[Unsure], count: int) -> list[Unsure]:
    """The `count` rows of the largest uncertainty, that one first, or all; of equal ones those that come first.

    The rows are read once, `count` of them held.
    """
    return heapq.nlargest(count, rows, key=lambda row: row.uncertainty)
