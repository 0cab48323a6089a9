"""Rules without knowledge, by hand, and what they reach on the generated tasks."""

import itertools

import pytest

from distill_jax.data.schema import Example
from distill_jax.data.vocabularies import END
from distill_jax.scoring import floors


def rows(*pairs):
    return [Example(str(n), text, label) for n, (text, label) in enumerate(pairs)]


TRAIN = rows(
    *[(f"is w{n} big?", "yes") for n in range(8)],
    *[(f"is w{n} big?", "no") for n in range(8, 12)],
    *[(f"was w{n} big?", "no") for n in range(40, 44)],
    ("is w20 big?", None),
)


def test_each_rule_by_hand():
    test = rows(("is w30 big?", None), ("was w30 big?", None), ("is w9 big?", None), ("was w9 big?", None))
    found = floors.predictions(TRAIN, test)
    assert found == {
        "majority": ["yes"] * 4,  # 8 of 16
        "wording": ["yes", "no", "yes", "no"],
        "lookup": ["yes", "no", "no", "no"],  # `is w9 big?` is in train
    }
    train = rows(("w1 w1", "odd"), ("w3 w3", "odd"), ("w2 w2", "even"), ("w1 w2", "even"), ("w0 w2", "even"))
    test = rows(("w5 w5", None), ("w1 w2", None), ("w4 w4", None))
    keys = [lambda example: int(example.input[1]) % 2 or None]
    assert floors.predictions(train, test, keys=keys)["lookup"] == ["odd", "even", "even"]


def test_the_regression_reads_words_and_what_the_premise_lacks():
    premises = ["a man sits", "a dog runs", "two girls sing", "an old car"]
    train = rows(*[(p + END + p.split()[-1], "yes") for p in premises] * 5)
    train += rows(*[(p + END + "nobody", "no") for p in premises] * 5)
    test = rows(("the cat sleeps" + END + "sleeps", None), ("the cat sleeps" + END + "elephants", None))
    found = floors.predictions(train, test, ("yes", "no"))
    assert found["words"] == ["yes", "no"]
    assert "words" not in floors.predictions(train, test)


def test_without_labels_there_is_no_rule():
    assert floors.predictions(rows(("a", None)), rows(("b", "x"))) == {}


@pytest.mark.parametrize("size", [1000, 4000])
def test_a_lookup_of_the_generated_pairs_is_at_the_floor(size):
    from distill_jax.tasks import entailment

    source = entailment.source()
    train = list(itertools.islice(source.examples("train"), size))
    test = list(source.examples("test"))
    labels = [example.label for example in test]
    found = floors.predictions(train, test, entailment.CLASSES, [entailment.asked])
    share = {name: sum(map(str.__eq__, labels, each)) / 1000 for name, each in found.items()}
    assert share["majority"] == 0.4 and share["wording"] == pytest.approx(0.6, abs=0.02)
    assert share["lookup"] == share["wording"] and share["words"] == pytest.approx(0.6, abs=0.03)
