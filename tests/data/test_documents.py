"""Span corruption against hand-worked texts and a plain reading of the t5 package's preprocessors."""

import collections
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_jax.data import documents
from distill_jax.data.documents import SpanCorruption, make_corruption
from distill_jax.data.records import Segment
from distill_jax.data.schema import Example
from distill_jax.data.tokenization import new_counts
from distill_jax.data.views import View
from distill_jax.data.vocabularies import load_vocabulary, train_vocabulary
from distill_jax.errors import UserError

END, FIRST_SENTINEL = 1, 999
T5 = SpanCorruption(0.15, 3.0, tuple(range(FIRST_SENTINEL, 899, -1)), END)
SPANS, CAUSAL = View("text", "input", noise=(0.15, 3.0)), View("text", "input")


def by_hand(tokens, mask):
    """Inputs and targets of a window, token by token."""
    inputs, targets, sentinel = [], [], FIRST_SENTINEL + 1
    for place, (token, taken) in enumerate(zip(tokens, mask, strict=True)):
        if taken and (place == 0 or not mask[place - 1]):
            sentinel -= 1
            inputs.append(sentinel)
            targets.append(sentinel)
        (targets if taken else inputs).append(token)
    return [*inputs, END], [*targets, END]


def helper_of_t5(inputs_length, density, mean_span):
    """`random_spans_helper`: (tokens, targets) of the longest text whose inputs have that length."""

    def lengths(tokens):
        noise = int(round(tokens * density))
        spans = int(round(noise / mean_span))
        return tokens - noise + spans + 1, noise + spans + 1

    tokens = inputs_length - 1
    while lengths(tokens + 1)[0] <= inputs_length:
        tokens += 1
    return tokens, lengths(tokens)[1]


def test_the_example_of_the_papers_second_figure():
    words = "Thank you for inviting me to your party last week .".split()
    ids = np.arange(100, 100 + len(words))
    mask = np.array([word in ("for", "inviting", "last") for word in words])
    names = dict(zip(ids.tolist(), words, strict=True)) | {999: "<X>", 998: "<Y>", 997: "<Z>", 1: "</s>"}
    inputs, targets = (" ".join(names[i] for i in part.tolist()) for part in T5(ids, mask))
    assert inputs == "Thank you <X> me to your party <Y> week . </s>"
    assert targets == "<X> for inviting <Y> last <Z> </s>"


def test_t5s_lengths():
    """The 512 and 114 tokens of T5's pretraining are windows of 568."""
    assert (T5.window(512), T5.lengths(568)) == (568, (512, 114))


@pytest.mark.parametrize("density, mean_span", [(0.15, 3.0), (0.3, 3.0), (0.15, 8.0), (0.1, 1.0)])
def test_the_lengths_are_those_of_the_t5_package(density, mean_span):
    corruption = SpanCorruption(density, mean_span, (), END)
    for inputs in range(60, 700):
        window = corruption.window(inputs)
        assert (window, corruption.lengths(window)[1]) == helper_of_t5(inputs, density, mean_span)


@settings(max_examples=200)
@given(st.integers(2, 700), st.sampled_from([0.15, 0.3, 0.5]), st.sampled_from([1.0, 3.0]), st.integers(0, 99))
def test_a_corrupted_window(length, density, mean_span, seed):
    corruption = SpanCorruption(density, mean_span, tuple(range(FIRST_SENTINEL, 0, -1)), END)
    mask = corruption.mask(length, np.random.default_rng(seed))
    noise = min(max(round(length * density), 1), length - 1)
    starts = np.flatnonzero(np.diff(mask.astype(int), prepend=0) == 1)
    assert len(mask) == length and mask.sum() == noise
    assert len(starts) == min(max(round(noise / mean_span), 1), length - noise)
    assert not mask[0] and mask[-1]  # kept and taken spans alternate, a kept one first
    tokens = np.random.default_rng(seed).integers(1000, 2000, length)
    inputs, targets = corruption(tokens, mask)
    assert (inputs.tolist(), targets.tolist()) == by_hand(tokens.tolist(), mask.tolist())
    assert (len(inputs), len(targets)) == corruption.lengths(length)


def test_share_and_mean_span_over_many_windows():
    random = np.random.default_rng(0)
    masks = [T5.mask(length, random) for length in random.integers(100, 600, 500)]
    taken = sum(mask.sum() for mask in masks)
    spans = sum((np.diff(mask.astype(int), prepend=0) == 1).sum() for mask in masks)
    assert taken / sum(map(len, masks)) == pytest.approx(0.15, abs=0.001)
    assert taken / spans == pytest.approx(3.0, abs=0.05)


def test_all_masks_of_the_same_counts_are_equally_likely():
    corruption, random = SpanCorruption(0.5, 2.0, (), END), np.random.default_rng(0)
    seen = collections.Counter(tuple(corruption.mask(8, random).tolist()) for _ in range(9000))
    kept = taken = [(1, 3), (2, 2), (3, 1)]
    expected = {
        tuple([False] * a + [True] * b + [False] * c + [True] * d)
        for (a, c), (b, d) in itertools.product(kept, taken)
    }
    assert seen.keys() == expected
    assert all(abs(count - 1000) < 5 * 30 for count in seen.values())


def test_the_spans_of_a_window_change_with_the_epoch_and_with_nothing_else():
    window = Segment(np.arange(100, 300, dtype=np.int32), (), 4, 7)
    first, again, later, other = (
        T5.corrupt(segment, *at).inputs.tolist()
        for segment, at in ((window, (0, 0)), (window, (0, 0)), (window, (0, 1)), (window, (1, 0)))
    )
    assert first == again and len({tuple(first), tuple(later), tuple(other)}) == 3
    assert T5.corrupt(window, 0, 0).example == 7


@pytest.fixture(scope="module")
def vocabulary():
    return train_vocabulary(["one two three four five six seven"] * 20, 300, extra_ids=12)


def windows(texts, view, vocabulary, lengths):
    numbered = [(number, Example(str(number), text)) for number, text in enumerate(texts)]
    corruption = make_corruption(view, vocabulary, lengths)
    counts = new_counts([view])
    arguments = (numbered, view, vocabulary, lengths, corruption, counts, np.random.default_rng(0))
    return [segment for (segment,) in documents.windows(*arguments)], counts


TEXTS = ["one two three", "four five", "six seven one two", "three"]


def test_windows_of_span_corruption_are_the_documents_one_after_the_other(vocabulary):
    segments, counts = windows(TEXTS, SPANS, vocabulary, {"inputs": 8, "targets": 4})
    sizes = [len(segment.inputs) for segment in segments]
    assert set(sizes[:-1]) == {7} and 2 <= sizes[-1] <= 7 and counts.views == {"text": len(segments)}
    tokens = [token for segment in segments for token in segment.inputs]
    orders = ([i for text in order for i in vocabulary.encode(text)] for order in itertools.permutations(TEXTS))
    assert tokens in list(orders)
    assert counts.encoder_tokens <= 8 * len(segments) and counts.decoder_tokens <= 4 * len(segments)


def test_windows_that_are_continued_have_an_end_token_after_each_document(vocabulary):
    segments, _ = windows(TEXTS, CAUSAL, vocabulary, {"inputs": 2, "targets": 5})
    tokens = [token for s in segments for token in (*s.inputs, s.start, *s.targets)]
    assert all(len(s.inputs) == 1 and 1 <= len(s.targets) <= 5 for s in segments)
    assert sorted(tokens) == sorted(i for text in TEXTS for i in (*vocabulary.encode(text), END))


def test_a_window_of_one_token_has_an_end_token_before_it(vocabulary):
    (token,) = vocabulary.encode("three")
    ((segment,), _), ((longer,), _) = (
        windows(["three"], view, vocabulary, {"inputs": 12, "targets": 8}) for view in (SPANS, CAUSAL)
    )
    assert segment.inputs == [END, token]
    assert [*longer.inputs, longer.start, *longer.targets] == [END, token, END]


def test_a_vocabulary_with_too_few_sentinels_is_refused(vocabulary):
    assert len(vocabulary.sentinels) == 12
    assert vocabulary.sentinels[0] == vocabulary.vocab_size - 1
    make_corruption(SPANS, vocabulary, {"inputs": 220, "targets": 60})
    message = "has 12 sentinels, a window for inputs of 512 tokens has 28 spans: give .*train:SIZE"
    with pytest.raises(UserError, match=message):
        make_corruption(SPANS, vocabulary, {"inputs": 512, "targets": 114})
    with pytest.raises(UserError, match="has 0 sentinels"):
        make_corruption(SPANS, load_vocabulary("bytes"), {"inputs": 512, "targets": 114})


def test_targets_that_are_too_short_are_refused(vocabulary):
    with pytest.raises(UserError, match=r"inputs of 100 and targets of 22: give --lengths 100,22$"):
        make_corruption(SPANS, vocabulary, {"inputs": 100, "targets": 20})
    with pytest.raises(UserError, match=r" 2,8: a window of 2 tokens makes .*: give --lengths 3,3$"):
        make_corruption(SPANS, vocabulary, {"inputs": 2, "targets": 8})
