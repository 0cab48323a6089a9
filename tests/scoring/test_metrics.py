import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score import tokenizers

from distill_jax.scoring import metrics

SCRIPTS = [
    "वह घर गया",
    "แมวกินปลา",
    "他回家了",
    "ذهب إلى البيت",
    "Он пошёл домой",
    "Er fährt",
    "집에 갔다",
    "😀",
    "?!",
]


def test_accuracy_by_hand():
    assert metrics.accuracy(["a", "b ", "c", "d"], ["a", " b", "x", None]) == {"accuracy": 0.5}


@pytest.mark.parametrize("metric", [metrics.accuracy, metrics.equation_accuracy, metrics.rouge_l])
def test_there_is_no_mean_over_no_row(metric):
    assert metric([], []) == {}


def test_equations_are_compared_by_value():
    targets = ["( 84.0 / 2.0 )", "( 1.0 + 2.0 )", "( 1.0 + 2.0 )", "( 1.0 + 2.0 )"]
    predictions = ["(21 * 2)", "4", "(1 + ", None]
    assert metrics.equation_accuracy(targets, predictions) == {"accuracy": 0.25}


@pytest.mark.parametrize(
    "target, prediction, same",
    [
        ("1,000", "1000", True),
        ("50%", "0.5", True),
        ("50%", "50", False),
        ("$29.00", "29", True),
        ("12 (apples)", "12", True),
        ("1/2", "0.5", True),
        ("5 x 3", "15", True),
        ("0.1 + 0.2", "0.3", True),
        ("1 / 3", "0.3333", False),
        ("( 8.0 - 3.0 )", "5", True),
        ("two apples", "two apples ", True),
        ("two apples", "two pears", False),
        ("x", None, False),
    ],
)
def test_same_text_or_same_value(target, prediction, same):
    assert metrics.is_same_value(target, prediction) == same


@given(st.text())
def test_a_text_has_its_own_value_whatever_it_is(text):
    assert metrics.is_same_value(text, text) and metrics.is_same_text(text, text)


def test_rouge_l_by_hand():
    # Longest common subsequence "the cat sat" has 3 words: precision 3/4, recall 3/3, F1 6/7.
    score = metrics.rouge_l(["the cat sat"], ["the black cat sat"])
    assert score == {"rougeL": pytest.approx(6 / 7)}
    assert metrics.rouge_l(["the cat"], [None]) == {"rougeL": 0.0}


@pytest.mark.parametrize("text", SCRIPTS)
def test_a_text_with_itself_is_1_in_any_script(text):
    assert metrics.rouge_l([text], [text]) == {"rougeL": 1.0}
    assert metrics.rouge_l([text], ["qq"]) == {"rougeL": 0.0}


def test_words_of_other_scripts():
    assert metrics.rouge_l(["Er fährt"], ["Er führt"]) == {"rougeL": 0.5}
    # Three of four characters in order, where no spaces part the words.
    assert metrics.rouge_l(["他回家了"], ["他回来了"]) == {"rougeL": 0.75}
    assert metrics.words("He's 1,5 घर-गया_x") == ["he", "s", "1", "5", "घर", "गया", "x"]
    assert metrics.words("fa\u0308hrt") == metrics.words("fährt") == ["fährt"]


@given(st.text(st.characters(max_codepoint=127)))
def test_words_in_ascii_are_those_of_rouge_score(text):
    assert metrics.words(text) == tokenizers.DefaultTokenizer(use_stemmer=False).tokenize(text)


@given(st.text(min_size=1), st.text(min_size=1))
def test_rouge_l_lies_between_0_and_1_and_is_1_for_the_text_itself(one, other):
    score = metrics.rouge_l([one, one], [other, one])["rougeL"]
    assert 0.5 <= score <= 1.0


def test_lengths_must_agree():
    with pytest.raises(ValueError):
        metrics.accuracy(["a"], [])
