import pytest

from distill_jax.scoring import metrics


def test_accuracy_by_hand():
    assert metrics.accuracy(["a", "b ", "c", "d"], ["a", " b", "x", None]) == {"accuracy": 0.5}
    assert metrics.accuracy([], []) == {"accuracy": 0.0}


def test_equations_are_compared_by_value():
    targets = ["( 84.0 / 2.0 )", "( 1.0 + 2.0 )", "( 1.0 + 2.0 )", "( 1.0 + 2.0 )"]
    predictions = ["(21 * 2)", "4", "(1 + ", None]
    assert metrics.equation_accuracy(targets, predictions) == {"accuracy": 0.25}


def test_two_texts_without_value_are_not_the_same():
    assert metrics.equation_accuracy(["x"], ["x"]) == {"accuracy": 0.0}


def test_rouge_l_by_hand():
    # Longest common subsequence "the cat sat" has 3 words: precision 3/4, recall 3/3, F1 6/7.
    score = metrics.rouge_l(["the cat sat"], ["the black cat sat"])
    assert score == {"rougeL": pytest.approx(6 / 7)}
    assert metrics.rouge_l(["the cat"], [None]) == {"rougeL": 0.0}


def test_lengths_must_agree():
    with pytest.raises(ValueError):
        metrics.accuracy(["a"], [])
