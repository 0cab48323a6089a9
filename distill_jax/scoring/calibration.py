"""Whether a student is right as often as it claims."""

from collections.abc import Sequence

import numpy as np


def expected_calibration_error(confidences: Sequence[float], correct: Sequence[bool], bins: int = 15) -> float:
    """Mean gap between confidence and accuracy, over equally wide bins of confidence weighed by their size.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", eq. 5; bin m of M is ((m-1)/M, m/M].

    Args:
      confidences: probability of each prediction, in [0, 1].
      correct: whether it is right.
      bins: M.

    Raises:
      ValueError: when there are none, or the lengths differ.
    """
    stated, right = np.asarray(confidences, np.float64), np.asarray(correct, np.float64)
    if stated.shape != right.shape or not stated.size:
        raise ValueError(f"{stated.size} confidences for {right.size} predictions")
    bin_of = np.clip(np.ceil(stated * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(bin_of, weights=stated - right, minlength=bins)
    return float(np.abs(gaps).sum() / stated.size)
