"""Rows of a product of lists: each at most once, classes with the same shares, one error beyond the limit."""

import collections

import pytest

from distill_jax.data.schema import Example
from distill_jax.data.sources import ProductSource
from distill_jax.errors import UserError

SHARES = {"yes": 2, "no": 1}
LETTERS = {"train": "abcd", "test": "ef"}


def parts(split, label):
    return LETTERS[split], range(5 if label == "yes" else 3)


def write(number, label, letter, digit):
    return Example(number, f"{letter}{digit} {label}?", label)


def source(seed=0, **sizes):
    return ProductSource(write, parts, SHARES, sizes, seed)


def test_no_row_comes_twice_and_the_last_ones_are_reached():
    whole = source(train=30, test=15)
    assert (whole.limit("train"), whole.limit("test")) == (30, 15)  # 20 // 2 and 12 // 1; 10 // 2 and 6 // 1
    for split in whole.splits:
        rows = list(whole.examples(split))
        assert len({row.input for row in rows}) == len(rows) == whole.size(split)
        assert [row.id for row in rows] == [f"{split}-{n}" for n in range(len(rows))]
        assert {row.input[0] for row in rows} <= set(LETTERS[split])


@pytest.mark.parametrize("rows", [3, 12, 29])
def test_the_first_rows_have_the_shares_too(rows):
    labels = [row.label for row in source(train=29).examples("train")][:rows]
    assert abs(collections.Counter(labels)["yes"] - rows * 2 / 3) <= 1


def test_a_split_depends_on_its_own_size_and_the_seed():
    rows = list(source(train=10, test=5).examples("train"))
    assert rows == list(source(train=10, test=9).examples("train"))
    assert rows != list(source(1, train=10, test=5).examples("train"))
    prints = [source(0, train=10), source(1, train=10), source(0, train=11)]
    assert len({each.fingerprint("train") for each in prints}) == 3


def test_more_rows_than_there_are_is_one_line():
    with pytest.raises(UserError) as raised:
        source(train=31)
    assert str(raised.value) == "cannot generate 31 different examples for train: there are 30"
