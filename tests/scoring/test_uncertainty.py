import math

import pytest

from distill_jax.scoring.uncertainty import MEASURES, Unsure, least_sure

PROBS = [0.5, 0.3, 0.2]


def test_measures_by_hand():
    assert MEASURES["least-confidence"](PROBS) == pytest.approx(0.5)
    assert MEASURES["margin"](PROBS) == pytest.approx(1 - (0.5 - 0.3))
    nats = -(0.5 * math.log(0.5) + 0.3 * math.log(0.3) + 0.2 * math.log(0.2))
    assert MEASURES["entropy"](PROBS) == pytest.approx(nats)


@pytest.mark.parametrize("name", MEASURES)
def test_certainty_is_0_and_a_tie_of_two_is_the_most(name):
    measure = MEASURES[name]
    assert measure([1.0, 0.0]) == measure([1.0]) == 0.0
    assert measure([0.5, 0.5]) == pytest.approx({"margin": 1.0, "entropy": math.log(2)}.get(name, 0.5))
    assert measure([0.5, 0.5]) > measure([0.6, 0.4]) > measure([0.9, 0.1])


def test_measures_disagree_where_they_should():
    """Two rivals among three against three about equal: the margin fears the first, the others the second."""
    rivals, equal = [0.48, 0.48, 0.04], [0.40, 0.35, 0.25]
    assert MEASURES["margin"](rivals) > MEASURES["margin"](equal)
    assert MEASURES["entropy"](rivals) < MEASURES["entropy"](equal)
    assert MEASURES["least-confidence"](rivals) < MEASURES["least-confidence"](equal)


def test_the_least_sure_come_first_and_the_first_of_equals():
    scores = {"a": 0.1, "b": 0.9, "c": 0.5, "d": 0.9, "e": 0.0}
    rows = [Unsure(score, name, "x") for name, score in scores.items()]
    assert [row.id for row in least_sure(iter(rows), 3)] == ["b", "d", "c"]
    assert [row.id for row in least_sure(rows, 99)] == ["b", "d", "c", "a", "e"]
