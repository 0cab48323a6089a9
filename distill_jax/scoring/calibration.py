"""Whether a student is right as often as it claims."""

from collections.abc import Sequence

import numpy as np

BINS = 15


def reliability(
    confidences: Sequence[float], correct: Sequence[bool], bins: int = BINS
) -> list[tuple[int, float, float]]:
    """(rows, mean confidence, accuracy) of each bin of confidence that has rows, rising.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2; bin m of M is ((m-1)/M, m/M].

    Args:
      confidences: probability of each prediction, in [0, 1].
      correct: whether it is right.
      bins: M, all equally wide.

    Raises:
      ValueError: when there are none, or the lengths differ.
    """
    stated, right = np.asarray(confidences, np.float64), np.asarray(correct, np.float64)
    if stated.shape != right.shape or not stated.size:
        raise ValueError(f"{stated.size} confidences for {right.size} predictions")
    bin_of = np.clip(np.ceil(stated * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(bin_of, minlength=bins)
    sums = [np.bincount(bin_of, weights=values, minlength=bins) for values in (stated, right)]
    return [(int(n), float(s / n), float(r / n)) for n, s, r in zip(counts, *sums, strict=True) if n]


def expected_calibration_error(
    confidences: Sequence[float], correct: Sequence[bool], bins: int = BINS
) -> float:
    """Mean gap between confidence and accuracy, over the bins of `reliability` weighed by their rows.

    Guo et al. 2017, eq. 3. Arguments and errors are those of `reliability`.
    """
    found = reliability(confidences, correct, bins)
    return sum(rows * abs(stated - right) for rows, stated, right in found) / len(correct)
