import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from distill_jax.evaluation.significance import (
    compare,
    difference_interval,
    mean_interval,
    paired_t_p,
    seeds_interval,
    share_interval,
)

COUNTS = st.integers(0, 200)


@given(st.integers(1, 500), st.data())
def test_the_interval_is_scipys_wilson_interval(rows, data):
    right = data.draw(st.integers(0, rows))
    expected = scipy.stats.binomtest(right, rows).proportion_ci(0.95, method="wilson")
    assert share_interval(right, rows) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_none_right_and_all_right_leave_room():
    low, high = share_interval(0, 10)
    assert low == 0.0 and high == pytest.approx(0.2775, abs=1e-4)
    assert share_interval(10, 10) == pytest.approx((1 - high, 1.0))
    assert share_interval(1, 1)[0] < 0.25


def test_mcnemar_by_hand():
    # Of 6 rows that only one has right, 5 are the second's: p = 2 * (C(6,0) + C(6,1)) / 2**6.
    first = [True] * 4 + [True] + [False] * 5 + [False] * 2
    second = [True] * 4 + [False] + [True] * 5 + [False] * 2
    result = compare(first, second)
    assert (result.both, result.only_first, result.only_second, result.neither) == (4, 1, 5, 2)
    assert result.mcnemar_p == pytest.approx(2 * (1 + 6) / 2**6)
    assert result.difference == pytest.approx(4 / 12)


def test_the_paired_bootstrap_is_that_of_drawing_rows():
    rng = np.random.default_rng(0)
    first, second = rng.random(80) < 0.6, rng.random(80) < 0.75
    result = compare(first.tolist(), second.tolist(), resamples=20_000)
    difference = second.astype(float) - first
    means = rng.choice(difference, (20_000, 80)).mean(axis=1)
    # Far from 0 and 1 the interval is about that of the bootstrap.
    np.testing.assert_allclose(result.interval, np.quantile(means, [0.025, 0.975]), atol=0.03)
    assert result.bootstrap_p == pytest.approx(2 * (means <= 0).mean(), abs=0.02)


def test_the_interval_of_a_difference_has_the_truth_in_it_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    cells = [0.70, 0.05, 0.15, 0.10]
    tables = rng.multinomial(60, cells, 2000)
    covered = [low <= 0.10 <= high for low, high in (difference_interval(*table) for table in tables.tolist())]
    assert 0.93 < np.mean(covered) < 0.98


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_the_interval_of_a_difference_has_the_difference_within_it_and_turns_with_the_runs(a, b, c, d):
    if not a + b + c + d:
        return
    low, high = difference_interval(a, b, c, d)
    difference = (c - b) / (a + b + c + d)
    assert -1 - 1e-9 <= low < difference + 1e-9 and difference - 1e-9 < high <= 1 + 1e-9
    assert low < high
    assert difference_interval(a, c, b, d) == pytest.approx((-high, -low), abs=1e-9)


def test_two_equal_runs_do_not_differ_and_all_right_leaves_room():
    result = compare([True, False], [True, False])
    assert result.mcnemar_p == result.bootstrap_p == 1.0
    low, high = compare([True] * 20, [True] * 20).interval
    assert low == pytest.approx(-high) and 0.0 < high < 0.25
    with pytest.raises(ValueError):
        compare([True], [True, False])


@pytest.mark.parametrize("rows", [12, 3000])
def test_no_p_value_is_0(rows):
    result = compare([False] * rows, [True] * rows, resamples=1000)
    assert result.bootstrap_p == pytest.approx(2 / 1001)
    assert result.mcnemar_p == (pytest.approx(2 / 2**12) if rows == 12 else np.finfo(float).tiny)


SHARES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=8)


@given(SHARES)
def test_over_seeds_interval_and_test_are_scipys(pairs):
    first, second = np.array(pairs).T
    if np.ptp(second - first) < 1e-6 or np.ptp(first) < 1e-6:
        return
    expected = scipy.stats.ttest_1samp(first, 0.0).confidence_interval(0.95)
    assert mean_interval(first.tolist()) == pytest.approx((expected.low, expected.high), abs=1e-9)
    p = scipy.stats.ttest_rel(first, second).pvalue
    assert paired_t_p(first.tolist(), second.tolist()) == pytest.approx(p, rel=1e-4, abs=1e-9)


def test_over_seeds_without_spread():
    assert paired_t_p([0.5, 0.6], [0.5, 0.6]) == 1.0
    assert 0.0 < paired_t_p([0.5, 0.5], [0.75, 0.75]) < 1e-300
    assert mean_interval([0.5, 0.5]) == (0.5, 0.5)
    assert seeds_interval([0.5, 0.5], 1, 2) == (0.5, 0.5)
    assert seeds_interval([0.0, 1.0], 0, 2) == (0.0, 1.0)  # Student's is wider than that
    for values in ([0.5], []):
        with pytest.raises(ValueError):
            mean_interval(values)
    with pytest.raises(ValueError):
        paired_t_p([0.5], [0.6])
