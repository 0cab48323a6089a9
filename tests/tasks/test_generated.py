"""The generated tasks: right by their own words, disjoint, the same every time."""

import itertools
import re

import pytest

from distill_jax.scoring.equations import evaluate_equation
from distill_jax.tasks import registry


def examples(name, split, count=None):
    source = registry.get_task(name).source
    return list(itertools.islice(source.examples(split), count))


@pytest.mark.parametrize("name", ["arithmetic", "entailment"])
def test_splits_are_disjoint_and_repeatable(name):
    splits = {split: examples(name, split) for split in ("train", "validation", "test")}
    assert [len(splits[s]) for s in ("train", "validation", "test")] == [20_000, 500, 1000]
    inputs = [e.input for found in splits.values() for e in found]
    assert len(set(inputs)) == len(inputs)
    ids = [e.id for found in splits.values() for e in found]
    assert len(set(ids)) == len(ids)
    assert examples(name, "train", 50) == splits["train"][:50]


def test_entailment_labels_and_reasons_follow_from_the_kinds():
    from distill_jax.tasks.entailment import WORDS

    kind_of = {word: kind for kind, words in WORDS.items() for word in words}
    assert len(kind_of) == sum(map(len, WORDS.values()))
    labels = []
    for example in examples("entailment", "test"):
        premise = example.input.removeprefix("Premise: ").split(".")[0]
        kinds = [kind_of.get(word) for word in re.findall(r" (?:an? |something )(\w+)", premise)]
        assert len(kinds) == 2
        named = re.findall(r"\b[Aa]n? (\w+)", example.rationale)
        assert named == [kind for kind in kinds if kind]
        if None in kinds:
            label = "neutral"
        else:
            label = "entailment" if kinds[0] == kinds[1] else "contradiction"
        assert example.label == label
        labels.append(label)
    for label, share in (("entailment", 0.4), ("neutral", 0.2), ("contradiction", 0.4)):
        assert abs(labels.count(label) / len(labels) - share) < 0.05


def test_arithmetic_rationales_end_in_the_value_of_the_label():
    for example in examples("arithmetic", "test"):
        value = evaluate_equation(example.label)
        assert example.rationale.endswith(f"= {value:.0f}.")
        for number in re.findall(r"\d+", example.label):
            assert number in example.input
