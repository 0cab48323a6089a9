"""What the benchmarks calculate from their figures."""

import importlib.util
import pathlib

import numpy as np
import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("openai")


@pytest.fixture(scope="module")
def active():
    path = pathlib.Path(__file__).parent.parent / "benchmarks/active_annotation.py"
    spec = importlib.util.spec_from_file_location("active_annotation", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_calls_to_reach_an_accuracy_by_hand(active):
    budgets, means = [100, 200, 400], [0.5, 0.6, 0.7]
    assert active.calls_to_reach(budgets, means, 0.4) == 100
    assert active.calls_to_reach(budgets, means, 0.6) == pytest.approx(200)
    assert active.calls_to_reach(budgets, means, 0.65) == pytest.approx(300)
    assert active.calls_to_reach(budgets, means, 0.71) is None


def test_the_statement_says_yes_no_or_not_for_every_seed(active):
    budgets = [100, 200, 400]
    random = np.array([[0.5, 0.6, 0.7], [0.5, 0.6, 0.7]])
    better = random + np.array([0.0, 0.1, 0.1])
    told = active.statement(budgets, {"random": random, "active": better})
    assert told.startswith("**Yes.**") and "with 200 (between" in told and "50% fewer" in told
    assert "ahead in 4 of 4 pairs, by +10.0 points" in told
    told = active.statement(budgets, {"random": random, "active": 2 * random - better})
    assert told.startswith("**No.**") and "active annotation to 60.0% at the most" in told
    mixed = random + np.array([[0.0, 0.2, 0.2], [0.0, -0.1, -0.1]])
    told = active.statement(budgets, {"random": random, "active": mixed})
    assert told.startswith("**In the mean, but not for every seed.**") and "by seed +20.0, -10.0" in told
