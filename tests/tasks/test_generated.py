"""The generated tasks: right by their own words, disjoint, the same every time."""

import re

import pytest

from distill_jax.data import registry
from distill_jax.evaluation.equations import evaluate_equation


def examples(name, split, count=None):
    with registry.without_seqio():
        source = registry.get_task(name).source
    found = list(source.examples(split))
    return found[:count]


@pytest.mark.parametrize("name", ["arithmetic", "entailment"])
def test_splits_are_disjoint_and_repeatable(name):
    splits = {split: examples(name, split) for split in ("train", "validation", "test")}
    assert [len(splits[s]) for s in ("train", "validation", "test")] == [20_000, 500, 1000]
    inputs = [e.input for found in splits.values() for e in found]
    assert len(set(inputs)) == len(inputs)
    ids = [e.id for found in splits.values() for e in found]
    assert len(set(ids)) == len(ids)
    assert examples(name, "train", 50) == splits["train"][:50]


def facts(text):
    """name -> what is said of it, from sentences of `<name> has a …` or `<name> is in …`."""
    return {name: what for name, what in re.findall(r"(\w+) ((?:has an? |is in )\w+)\.", text)}


def test_entailment_labels_follow_from_the_premise():
    labels = []
    for example in examples("entailment", "test"):
        premise, hypothesis = example.input.removeprefix("Premise: ").split(" Hypothesis: ")
        (name, claim), known = next(iter(facts(hypothesis).items())), facts(premise)
        if claim == known[name]:
            label = "entailment"
        elif claim.split()[0] == known[name].split()[0]:
            label = "contradiction"
        else:
            label = "neutral"
        assert example.label == label
        assert example.rationale.startswith(f"{name} {known[name]}")
        labels.append(label)
    for label in set(labels):
        assert 0.28 < labels.count(label) / len(labels) < 0.39


def test_arithmetic_rationales_end_in_the_value_of_the_label():
    for example in examples("arithmetic", "test"):
        value = evaluate_equation(example.label)
        assert example.rationale.endswith(f"= {value:.0f}.")
        for number in re.findall(r"\d+", example.label):
            assert number in example.input
