"""The generated tasks: right by their own words, disjoint, the same every time."""

import collections
import itertools
import re

import pytest

from distill_jax.errors import UserError
from distill_jax.scoring.equations import evaluate_equation
from distill_jax.tasks import arithmetic, entailment, registry


def examples(name, split, count=None):
    source = registry.get_task(name).source
    return list(itertools.islice(source.examples(split), count))


SPLITS = {"train": 20_000, "validation": 500, "test": 1000}


@pytest.fixture(scope="module")
def rows():
    """(task) -> split -> examples."""
    return {name: {s: examples(name, s) for s in SPLITS} for name in ("arithmetic", "entailment")}


@pytest.mark.parametrize("name", ["arithmetic", "entailment"])
def test_splits_are_disjoint_and_repeatable(name, rows):
    splits = rows[name]
    assert {split: len(found) for split, found in splits.items()} == SPLITS
    inputs = [e.input for found in splits.values() for e in found]
    assert len(set(inputs)) == len(inputs)
    ids = [e.id for found in splits.values() for e in found]
    assert len(set(ids)) == len(ids)
    assert examples(name, "train", 50) == splits["train"][:50]


def test_no_pair_of_words_and_no_calculation_is_in_two_splits(rows):
    about = {
        "entailment": lambda example: entailment.asked(example),
        "arithmetic": lambda example: example.label,
    }
    for name, key in about.items():
        seen = [{key(example) for example in found} - {None} for found in rows[name].values()]
        assert sum(map(len, seen)) == len(set().union(*seen))


@pytest.mark.parametrize("sizes", [SPLITS, {"train": 333, "validation": 11, "test": 1001}])
def test_classes_have_the_same_shares_in_every_split(sizes):
    for found in map(entailment.source(sizes).examples, sizes):
        labels = [example.label for example in found]
        for label, share in (("entailment", 0.4), ("neutral", 0.2), ("contradiction", 0.4)):
            assert abs(labels.count(label) - share * len(labels)) <= 1


def test_a_word_says_nothing_of_the_label():
    """In every split each word has as many partners of its own kind as any other, and of other kinds too."""
    pairs = collections.Counter()
    for split in SPLITS:
        for label in ("entailment", "contradiction"):
            found = entailment.parts(split, label)[0]
            counts = collections.Counter(word for pair in found for word in pair)
            assert len(set(counts.values())) == 1 and counts.keys() == entailment.KIND_OF.keys()
            pairs.update(map(frozenset, found))
    assert len(pairs) == 120 * 119 // 2 and set(pairs.values()) == {2}  # all there are, in both orders


def test_as_many_rows_as_there_are_and_one_line_beyond():
    limit = entailment.source().limit("validation")
    found = list(entailment.source({"validation": limit}).examples("validation"))
    assert len({example.input for example in found}) == limit == 1500
    for task in (entailment, arithmetic):
        with pytest.raises(UserError) as raised:
            task.source({"test": 10**9})
        (line,) = str(raised.value).splitlines()
        assert line.startswith("cannot generate 1,000,000,000 different examples for test: there are ")


def test_entailment_labels_and_reasons_follow_from_the_kinds(rows):
    kind_of = entailment.KIND_OF
    assert len(kind_of) == sum(map(len, entailment.WORDS.values()))
    for example in rows["entailment"]["test"]:
        premise = example.input.removeprefix("Premise: ").split(".")[0]
        kinds = [kind_of.get(word) for word in re.findall(r" (?:an? |something )(\w+)", premise)]
        assert len(kinds) == 2
        named = re.findall(r"\b[Aa]n? (\w+)", example.rationale)
        assert named == [kind for kind in kinds if kind]
        if None in kinds:
            label = "neutral"
        else:
            label = "entailment" if kinds[0] == kinds[1] else "contradiction"
        assert example.label == label == entailment.implied(example.rationale)


def test_arithmetic_rationales_end_in_the_value_of_the_label(rows):
    for example in rows["arithmetic"]["test"]:
        value = evaluate_equation(example.label)
        assert example.rationale.endswith(f"= {value:.0f}.")
        for number in re.findall(r"\d+", example.label):
            assert number in example.input
