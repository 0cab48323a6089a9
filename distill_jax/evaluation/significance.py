"""How far an accuracy can be trusted, and whether two runs differ by more than chance.

Intervals are score intervals, which keep their width where all rows are right or all wrong. Right and wrong are
all that is resampled, so a bootstrap sample of n paired rows is a draw from a multinomial distribution of n:
the same distribution as drawing rows, at no cost of n.
"""

import dataclasses
import math
import statistics
from collections.abc import Sequence

import numpy as np

LEVEL = 0.95  # how often an interval has the true value in it


def share_interval(right: int, rows: int) -> tuple[float, float]:
    """Wilson's score interval, 95%, of the share of `right` in one or more `rows` (Wilson 1927, JASA 22)."""
    z = statistics.NormalDist().inv_cdf((1 + LEVEL) / 2)
    share, shrink = right / rows, 1 / (1 + z * z / rows)
    middle = shrink * (share + z * z / (2 * rows))
    half = shrink * z * math.sqrt(share * (1 - share) / rows + (z / (2 * rows)) ** 2)
    # At both ends the formula gives 0 and 1 but for rounding.
    return (0.0 if right == 0 else middle - half, 1.0 if right == rows else middle + half)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's interval, 95%, of the mean of which these are draws, such as a run's accuracy with each seed.

    Raises:
      ValueError: for fewer than two values.
    """
    from scipy.stats import t

    if len(values) < 2:
        raise ValueError(f"{len(values)} values have no spread")
    reach = float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values) - reach, statistics.fmean(values) + reach


def paired_t_p(first: Sequence[float], second: Sequence[float]) -> float:
    """p of Student's paired test, two-sided, that two means are one; a pair is of the same seed.

    1 where all differences are 0; never 0.

    Raises:
      ValueError: for fewer than two pairs, or values without a partner.
    """
    from scipy.stats import t

    differences = [b - a for a, b in zip(first, second, strict=True)]
    mean, count = statistics.fmean(differences), len(differences)
    spread = statistics.stdev(differences) if count > 1 else math.nan
    if math.isnan(spread):
        raise ValueError(f"{count} pairs have no spread")
    if mean == 0.0:
        return 1.0
    score = abs(mean) / (spread / math.sqrt(count)) if spread else math.inf
    return max(2 * float(t.sf(score, count - 1)), float(np.finfo(float).tiny))


def seeds_interval(accuracies: Sequence[float], right: int, rows: int) -> tuple[float, float]:
    """95%, of a method's accuracy: Student's over the seeds; of one seed Wilson's, of `right` in `rows`.

    Student's, which knows nothing of shares, is cut to [0, 1].
    """
    if len(accuracies) < 2:
        return share_interval(right, rows)
    low, high = mean_interval(accuracies)
    return max(low, 0.0), min(high, 1.0)


def seeds_p(first: Sequence[float], second: Sequence[float], correct: Sequence[Sequence[bool]]) -> float:
    """p that two methods are one: Student's paired test over the seeds; of one seed McNemar's over the rows.

    `first` and `second` are accuracies of the same seeds; `correct` says which rows the only run of either has
    right.
    """
    return paired_t_p(first, second) if len(first) > 1 else compare(*correct, resamples=1).mcnemar_p


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two runs on the same rows.

    Attributes:
      both: rows that both have right.
      only_first: rows that only the first has right.
      only_second: rows that only the second has right.
      neither: rows that both have wrong.
      difference: accuracy of the second minus that of the first.
      interval: of the difference, 95%; see `difference_interval`.
      bootstrap_p: by the paired bootstrap, twice the share of the samples on the other side of 0, the observed
        difference counted as one of them (Davison & Hinkley 1997, eq. 4.11): never 0, 1 at most.
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


def difference_interval(both: int, only_first: int, only_second: int, neither: int) -> tuple[float, float]:
    """Interval, 95%, of the difference of two paired shares, second minus first; see `Comparison`.

    Newcombe 1998, "Improved confidence intervals for the difference between binomial proportions based on
    paired data", Stat. Med. 17, method 10.
    Of the four counts at least one is not 0.
    """
    rows = both + only_first + only_second + neither
    one, two = both + only_first, both + only_second
    (low1, high1), (low2, high2) = share_interval(one, rows), share_interval(two, rows)
    share1, share2 = one / rows, two / rows
    spread = math.sqrt(one * (rows - one) * two * (rows - two))
    excess = both * neither - only_first * only_second
    # With a correction for continuity, as Newcombe has it, where the two are right together.
    phi = (max(excess - rows / 2, 0.0) if excess > 0 else excess) / spread if spread else 0.0

    def reach(second: float, first: float) -> float:
        return math.sqrt(max(second**2 - 2 * phi * second * first + first**2, 0.0))

    difference = share2 - share1
    return difference - reach(share2 - low2, high1 - share1), difference + reach(high2 - share2, share1 - low1)


def compare(
    first: Sequence[bool], second: Sequence[bool], *, resamples: int = 10_000, seed: int = 0
) -> Comparison:
    """Tests whether two runs differ: McNemar 1947, and the paired bootstrap (Efron & Tibshirani 1993).

    Args:
      first, second: whether each row is right in the first run and in the second; one row or more.
      resamples: bootstrap samples; `seed` is theirs.

    Raises:
      ValueError: when there are no rows, or the numbers differ.
    """
    from scipy.stats import binomtest  # half a second that no other evaluation needs

    one, two = np.asarray(first, bool), np.asarray(second, bool)
    if one.shape != two.shape or not one.size:
        raise ValueError(f"{one.size} rows beside {two.size}")
    cells = [one & two, one & ~two, ~one & two, ~one & ~two]
    counts = both, only_first, only_second, neither = [int(cell.sum()) for cell in cells]
    shares = np.array([only_first, only_second, both + neither]) / one.size
    draws = np.random.default_rng(seed).multinomial(one.size, shares, resamples)
    differences = draws[:, 1] - draws[:, 0]
    beyond = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    disagreeing = only_first + only_second
    exact = binomtest(only_first, disagreeing).pvalue if disagreeing else 1.0
    return Comparison(
        *counts,
        (only_second - only_first) / one.size,
        difference_interval(*counts),
        min(1.0, 2 * (beyond + 1) / (resamples + 1)),
        max(float(exact), float(np.finfo(float).tiny)),  # 2 ** -1080 is 0 as a float
    )
