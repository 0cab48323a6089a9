import collections

import pytest

from distill_jax.data.schema import Example
from distill_jax.data.selection import Filters, keep, share
from distill_jax.errors import UserError

FRACTIONS = (0.125, 0.25, 0.5, 0.75, 1.0)


class Numbers:
    """Examples 0 to 79."""

    splits = ("train",)

    def examples(self, split):
        return (Example(str(n), f"input {n}", str(n)) for n in range(80))

    def size(self, split):
        return 80


def numbers(*arguments):
    return [number for number, _ in share(Numbers(), "train", *arguments)]


def test_shares_are_nested_and_in_order():
    parts = [numbers(fraction, None, 3) for fraction in FRACTIONS]
    assert [len(part) for part in parts] == [10, 20, 40, 60, 80]
    for smaller, larger in zip(parts, parts[1:], strict=False):
        assert set(smaller) < set(larger)
    assert all(part == sorted(part) for part in parts)
    assert parts[0] == numbers(1.0, 10, 3)
    assert parts[0] != numbers(0.125, None, 4)


@pytest.mark.parametrize(("fraction", "count"), [(0.001, None), (1.0, 81), (1.0, 0)])
def test_a_share_that_is_not_there(fraction, count):
    with pytest.raises(UserError, match="of the 80 there are"):
        numbers(fraction, count, 0)


def kept(rationales, agree=lambda example: True, **filters):
    examples = enumerate(Example(str(n), "x", "y", "y", text) for n, text in enumerate(rationales))
    dropped = collections.Counter()
    found = [number for number, _ in keep(examples, Filters(**filters), agree, dropped)]
    assert len(found) + dropped.total() == len(rationales)
    return found, dict(dropped)


def test_nothing_is_dropped_unless_asked():
    assert kept(["a", None, "a"]) == ([0, 1, 2], {})


def test_lengths_by_words():
    texts = ["one", "one two", "one two three", None]
    found = kept(texts, min_words=2, max_words=2)
    assert found == ([1], {"rationale_too_short": 2, "rationale_too_long": 1})


def test_rows_the_teacher_got_wrong():
    found = kept(["a", "b", "c"], lambda example: example.rationale != "b", agreeing=True)
    assert found == ([0, 2], {"teacher_disagrees": 1})


def test_near_duplicates():
    first = "The cat sits on the mat because the mat is warm and the floor of the room is cold in winter."
    again = first.replace("warm", "soft").upper()
    other = "A trout is a fish and a saw is a tool, so they are of different kinds."
    texts = [first, again, other, first, None, "yes", "Yes!"]
    assert kept(texts, max_similarity=0.5) == ([0, 2, 4, 5], {"near_duplicate_rationale": 3})
    assert kept(texts, max_similarity=0.95)[0] == [0, 1, 2, 4, 5]


@pytest.mark.parametrize("bound", [0.0, 1.0, -1.0])
def test_a_similarity_is_between_0_and_1(bound):
    with pytest.raises(UserError, match="MAX_RATIONALE_SIMILARITY"):
        Filters(max_similarity=bound)
