"""Which programs a batch needs."""

import types

import pytest

pytest.importorskip("pydantic")

from distill_jax.config import Decoding
from distill_jax.data.schema import Example
from distill_jax.data.views import View
from distill_jax.decoding.predict import Request
from distill_jax.serving.batches import Generate, Item, programs
from distill_jax.serving.generation import forms

ENGINE = types.SimpleNamespace(batch_size=16, inputs_length=128)
FORM = forms((View("label", "label"), View("rationale", "rationale")))[""]


def needed(key, *lengths, choices=None):
    return programs(ENGINE, key, [Item(Example("id", "x", choices=choices), 0, pair) for pair in lengths])


def test_batches_of_the_same_padding_need_the_same_programs():
    greedy = Generate(FORM, Decoding(), False)
    assert needed(greedy, (15, 16), (3, 4)) == needed(greedy, (16, 15), (15, 15), (2, 2)) == {("greedy", 4, 16)}
    assert needed(greedy, (15, 16)) == {("greedy", 1, 16)}  # another size
    assert needed(greedy, (15, 16), (3, 120)) == {("greedy", 4, 16), ("greedy", 4, 128)}
    assert needed(Request(), (16,), (3,)) <= needed(greedy, (15, 16), (3, 4))  # a label alone
    cold, hot = (Generate(FORM, Decoding(temperature=t, top_k=k), False) for t, k in ((0.5, 0), (1.0, 9)))
    assert needed(cold, (9, 9)) == needed(hot, (9, 9)) != needed(greedy, (9, 9))


def test_labels_to_choose_from_and_log_probabilities_need_more():
    greedy, ranked = needed(Request(), (9,)), needed(Request(label_by="rank"), (9,), choices=("p", "q"))
    assert greedy < ranked == needed(Request(label_by="rank"), (9,), choices=("p", "q", "r"))
    assert ranked != needed(Request(label_by="rank"), (9,), choices=("p" * 100, "q"))
    assert needed(Generate(FORM, Decoding(), False), (9, 9)) < needed(Generate(FORM, Decoding(), True), (9, 9))
