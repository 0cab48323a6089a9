"""Calibration, classes, significance and consistency, by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_jax.evaluation.significance import accuracy_interval, compare
from distill_jax.scoring.calibration import expected_calibration_error
from distill_jax.scoring.classes import class_report, confusion_matrix
from distill_jax.scoring.consistency import last_equation, named_choice


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


CLASSES = ("a", "b")


def test_confusion_and_report_by_hand():
    targets = ["a", "a", "a", "b", "b", "not a class"]
    predictions = ["a", " a ", "b", "b", None, "a"]
    counts = confusion_matrix(targets, predictions, CLASSES)
    assert counts.tolist() == [[2, 1, 0], [0, 1, 1]]
    report = class_report(counts, CLASSES)
    assert report["a"] == {"precision": 1.0, "recall": 2 / 3, "f1": 0.8, "support": 3}
    assert report["b"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}


def test_a_class_that_nobody_predicts_or_has_is_all_zero():
    report = class_report(confusion_matrix(["a"], ["a"], CLASSES), CLASSES)
    assert report["b"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}


def test_the_interval_is_that_of_drawing_rows():
    correct = [True] * 30 + [False] * 10
    low, high = accuracy_interval(correct, resamples=20_000)
    rng = np.random.default_rng(1)
    means = rng.choice(correct, (20_000, 40)).mean(axis=1)
    np.testing.assert_allclose([low, high], np.quantile(means, [0.025, 0.975]), atol=0.025)
    assert accuracy_interval(correct) == accuracy_interval(correct)
    assert accuracy_interval([True]) == (1.0, 1.0)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(300):
        low, high = accuracy_interval((rng.random(200) < 0.7).tolist(), resamples=500, seed=seed)
        held += low <= 0.7 <= high
    assert 0.9 < held / 300 < 0.99


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
    np.testing.assert_allclose(result.interval, np.quantile(means, [0.025, 0.975]), atol=0.03)
    assert result.bootstrap_p == pytest.approx(2 * (means <= 0).mean(), abs=0.02)


def test_two_equal_runs_do_not_differ():
    result = compare([True, False], [True, False])
    assert result.mcnemar_p == result.bootstrap_p == 1.0 and result.interval == (0.0, 0.0)
    with pytest.raises(ValueError):
        compare([True], [True, False])


def test_the_choice_that_a_rationale_names():
    choices = ("bank", "river bank", "train station")
    assert named_choice("Of the above choices, only a Train Station fits.", choices) == "train station"
    assert named_choice("One fishes at a river bank.", choices) == "river bank"
    assert named_choice("A bank, or a train station.", choices) is None
    assert named_choice("The bankers.", choices) is None
    assert named_choice("Is it a+b (or so)?", ("a+b", "c")) == "a+b"
    assert named_choice("anything", ()) is None


@pytest.mark.parametrize(
    "rationale, equation",
    [
        ("So he scored 84 points in 2 rounds. 84 / 2 = 42.", "84 / 2"),
        ("17 + 15 = 32, and 32 + 2 = 34 kids.", "32 + 2"),
        ("The answer is ( 76.0 - 25.0 )", "( 76.0 - 25.0 )"),
        ("(7 + 5 = 12)", "7 + 5"),
        ("So Ed had 45 - (-1) = 46 marbles.", "45 - (-1)"),
        ("He had -78 + 154 = 76 cakes.", "-78 + 154"),
        ("The discount is 76-25 = 51.", "76-25"),
        ("each of 1,200 x 3 boxes", "1200 * 3"),
        ("He has 12 apples.", None),
        ("", None),
    ],
)
def test_the_last_calculation_of_a_rationale(rationale, equation):
    assert last_equation(rationale) == equation


@given(st.text(alphabet="0123456789+-*/x×() .,=ab", max_size=80))
def test_any_rationale_is_read(text):
    equation = last_equation(text)
    assert equation is None or any(sign in equation for sign in "+-*/")


@given(st.lists(st.floats(0, 1), min_size=1), st.data())
def test_calibration_error_lies_between_0_and_1(confidences, data):
    correct = data.draw(st.lists(st.booleans(), min_size=len(confidences), max_size=len(confidences)))
    assert 0.0 <= expected_calibration_error(confidences, correct) <= 1.0 + 1e-9
    assert math.isfinite(expected_calibration_error(confidences, correct, bins=1))
