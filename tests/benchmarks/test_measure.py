"""Medians, spreads and ratios; who is measured when."""

import math

import pytest

from benchmarks import measure


def test_all_are_warmed_up_and_then_measured_in_turn():
    calls = []

    def contestant(name):
        return lambda: calls.append(name) or 3.0

    rates = measure.in_turn({name: contestant(name) for name in "ab"}, 3)
    assert calls == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert {name: len(values) for name, values in rates.items()} == {"a": 3, "b": 3}
    assert all(value > 0 for values in rates.values() for value in values)


def test_a_round_is_only_begun_if_it_fits():
    rates = measure.in_turn({"a": lambda: 1.0}, 5, seconds=0.0)
    assert len(rates["a"]) == 1


def test_summary():
    found = measure.summary([4.0, 5.0, 7.0])
    assert found == {"median": 5.0, "spread": 0.6, "values": [4.0, 5.0, 7.0]}


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_what_is_no_measurement_is_refused(values):
    with pytest.raises(ValueError, match="not measurements"):
        measure.summary(values)


def test_a_contestant_that_is_not_there():
    assert measure.summary(None) is None
    assert measure.ratio(measure.summary([1.0]), None) is None
    assert measure.ratio(measure.summary([3.0]), measure.summary([2.0])) == 1.5
