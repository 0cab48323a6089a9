"""How far an accuracy can be trusted, and whether two runs differ by more than chance.

Right and wrong are all that is resampled, so a bootstrap sample of n rows is a draw from a binomial (one run)
or multinomial (two) distribution of n: the same distribution as drawing rows, at no cost of n.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

RESAMPLES = 10_000


def _percentiles(means: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def accuracy_interval(
    correct: Sequence[bool], *, resamples: int = RESAMPLES, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of a share (Efron & Tibshirani 1993, ch. 13).

    Args:
      correct: whether each row is right; one or more.
      resamples: bootstrap samples.
      seed: of the samples.
      level: share of the samples within the interval.
    """
    rows = len(correct)
    right = np.random.default_rng(seed).binomial(rows, sum(correct) / rows, resamples)
    return _percentiles(right / rows, level)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two runs on the same rows.

    Attributes:
      both: rows that both have right.
      only_first: rows that only the first has right.
      only_second: rows that only the second has right.
      neither: rows that both have wrong.
      difference: accuracy of the second minus that of the first.
      interval: of the difference, by the paired bootstrap.
      bootstrap_p: twice the share of bootstrap samples on the other side of 0, 1 at most.
      mcnemar_p: McNemar's exact test, two-sided: the chance of so uneven a split of the rows that only one has
        right, were either run as likely to be the one.
    """

    both: int
    only_first: int
    only_second: int
    neither: int
    difference: float
    interval: tuple[float, float]
    bootstrap_p: float
    mcnemar_p: float


def compare(
    first: Sequence[bool],
    second: Sequence[bool],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> Comparison:
    """Tests whether two runs differ: McNemar 1947, and the paired bootstrap (Efron & Tibshirani 1993).

    Args:
      first: whether each row is right in the first run; one or more.
      second: the same rows in the second.
      resamples: bootstrap samples.
      seed: of the samples.
      level: of the interval.

    Raises:
      ValueError: when there are no rows, or the numbers differ.
    """
    from scipy.stats import binomtest  # half a second that no other evaluation needs

    one, two = np.asarray(first, bool), np.asarray(second, bool)
    if one.shape != two.shape or not one.size:
        raise ValueError(f"{one.size} rows beside {two.size}")
    cells = [one & two, one & ~two, ~one & two, ~one & ~two]
    both, only_first, only_second, neither = (int(cell.sum()) for cell in cells)
    shares = np.array([only_first, only_second, both + neither]) / one.size
    draws = np.random.default_rng(seed).multinomial(one.size, shares, resamples)
    differences = (draws[:, 1] - draws[:, 0]) / one.size
    disagreeing = only_first + only_second
    sides = (float((differences <= 0).mean()), float((differences >= 0).mean()))
    return Comparison(
        both,
        only_first,
        only_second,
        neither,
        (only_second - only_first) / one.size,
        _percentiles(differences, level),
        min(1.0, 2 * min(sides)),
        binomtest(only_first, disagreeing).pvalue if disagreeing else 1.0,
    )
