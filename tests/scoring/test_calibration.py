import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_jax.scoring.calibration import expected_calibration_error


def test_calibration_error_by_hand():
    # Of two bins (0, 0.5] holds 0.2 (wrong) and 0.4 (right), gap 0.2, and (0.5, 1] holds 0.9 (right), gap 0.1.
    error = expected_calibration_error([0.2, 0.4, 0.9], [False, True, True], bins=2)
    assert error == pytest.approx(2 / 3 * 0.2 + 1 / 3 * 0.1)
    assert expected_calibration_error([1.0, 0.0], [True, False]) == 0.0
    assert expected_calibration_error([1.0, 1.0], [False, False]) == 1.0
    with pytest.raises(ValueError):
        expected_calibration_error([], [])


def test_a_confidence_on_the_edge_is_in_the_lower_bin():
    assert expected_calibration_error([0.5, 0.51], [True, False], bins=2) == pytest.approx((0.5 + 0.51) / 2)


@given(st.lists(st.floats(0, 1), min_size=1), st.data())
def test_calibration_error_lies_between_0_and_1(confidences, data):
    correct = data.draw(st.lists(st.booleans(), min_size=len(confidences), max_size=len(confidences)))
    assert 0.0 <= expected_calibration_error(confidences, correct) <= 1.0 + 1e-9
    assert math.isfinite(expected_calibration_error(confidences, correct, bins=1))
