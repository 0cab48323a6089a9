import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_jax.data.completions import UNPARSED, Completion
from distill_jax.data.completions.anli import parse_anli
from distill_jax.data.completions.cqa import parse_cqa
from distill_jax.data.completions.esnli import parse_esnli
from distill_jax.data.completions.svamp import parse_svamp

ENDINGS = {
    parse_svamp: (
        "She has 3. The answer is (1 + 2).\n\nQ: next",
        Completion("(1 + 2)", "She has 3."),
    ),
    parse_cqa: (
        "Trains stop there. So the answer is (c) train station.\n\nQ: next",
        Completion("train station", "Trains stop there."),
    ),
    parse_anli: (
        "It says so. So the answer is contradiction.\n\nPremise: next",
        Completion("contradiction", "It says so."),
    ),
    parse_esnli: (
        "It says so.\nAnswer: neutral\n\nPremise: next\nAnswer: entailment",
        Completion("neutral", "It says so."),
    ),
}


@pytest.mark.parametrize("parse", ENDINGS)
def test_ending(parse):
    text, expected = ENDINGS[parse]
    assert parse(text) == expected


@pytest.mark.parametrize("parse", ENDINGS)
@pytest.mark.parametrize("text", ["", "It says so, and so on", "Q: The answer is (1)", "Premise: Answer:"])
def test_no_ending(parse, text):
    assert parse(text) == UNPARSED


def test_ending_without_answer():
    assert parse_svamp("Three. The answer is three.") == UNPARSED
    assert parse_cqa("Trains. So the answer is a train.") == UNPARSED
    assert parse_anli("So. So the answer is .") == UNPARSED
    assert parse_esnli("So.\nAnswer:\n\nPremise: next") == UNPARSED


def test_anli_needs_a_full_stop():
    assert parse_anli("So. So the answer is contradiction") == UNPARSED
    assert parse_anli('So. So the answer is neutral"').label == "neutral"


def test_esnli_takes_the_first_of_two_answers():
    assert parse_esnli("A.\nAnswer: neutral\nAnswer: entailment\n\nPremise: x") == ("neutral", "A.")
    assert parse_esnli("A.\nAnswer: neutral Premise") == ("neutral", "A.")


def test_svamp_keeps_all_parentheses():
    assert parse_svamp("So. The answer is ((1 + 2) * (3)) apples").label == "((1 + 2) * (3))"


@given(st.text() | st.text("(c). :answisTQPrem\n"))
def test_any_text(text):
    for parse in ENDINGS:
        label, rationale = parse(text)
        assert (label is None) == (rationale is None)
        assert label is None or label.strip()


@pytest.mark.parametrize(
    ("name", "parse"), [("anli1", parse_anli), ("esnli", parse_esnli)], ids=["anli1", "esnli"]
)
def test_samples(samples, name, parse):
    """The teacher's labels of the samples are classes, and most of them right."""
    classes = ("entailment", "neutral", "contradiction")
    for split in ("valid", "test"):
        lines = (samples / name / f"{name}_{split}.json").read_text().splitlines()
        golds = [classes[json.loads(line)["label"]] for line in lines]
        texts = json.loads((samples / name / "llm" / f"{split}_CoT_0.json").read_text())
        labels = [parse(text).label for text in texts]
        assert {label for label in labels if label} <= set(classes)
        right = sum(g == t for g, t in zip(golds, labels, strict=True))
        assert right > 0.5 * len(golds)
