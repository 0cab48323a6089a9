import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_jax.decoding import batching, continuous
from distill_jax.decoding.search import sample_decode
from distill_jax.models.config import T5Config
from distill_jax.models.t5 import Transformer
from distill_jax.training import train_state

EOS = 1
LONGEST = 32


@functools.cache
def student(scan_layers=False, tied=False):
    """A student whose outputs end at different steps, some never."""
    config = T5Config(
        vocab_size=40,
        emb_dim=16,
        num_heads=2,
        num_encoder_layers=1,
        num_decoder_layers=2,
        head_dim=8,
        mlp_dim=32,
        mlp_activations=("gelu", "linear"),
        scan_layers=scan_layers,
        logits_via_embedding=tied,
    )
    model = Transformer(config)
    params = train_state.init_params(model, 5)
    return model, jax.tree.map(lambda x: x * 2.0, params)


def inputs(count, seed=0):
    rng = np.random.default_rng(seed)
    return [[*rng.integers(2, 40, rng.integers(1, LONGEST - 1)).tolist(), EOS] for _ in range(count)]


sample = jax.jit(sample_decode, static_argnums=0, static_argnames="max_decode_length")


@functools.cache
def rows_of_every_length():
    """37 rows whose outputs of up to 40 tokens end all over, or nothing would be refilled, widened and cut."""
    rows = inputs(37)
    expected, scores = one_by_one(*student(), rows, 40)
    lengths = [int((row > 0).sum()) for row in expected]
    assert len(set(lengths)) > 4 and max(lengths) == 40
    return rows, expected, scores, lengths


def one_by_one(model, params, rows, max_length):
    """Sampling at temperature 0, each row in a batch of its own."""
    padded = np.zeros((len(rows), LONGEST), np.int32)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    seed, streams = np.uint32(0), np.zeros(1, np.uint32)
    greedy = np.zeros(1, np.float32), np.zeros(1, np.int32), np.ones(1, np.float32)
    found = [
        sample(model, params, row[None], seed, streams, *greedy, max_decode_length=max_length) for row in padded
    ]
    return [np.asarray(tokens[0, 0]) for tokens, _ in found], [float(scores[0, 0]) for _, scores in found]


def together(model, params, rows, max_length, batch_size):
    results = {}
    settings = {"batch_size": batch_size, "longest": LONGEST, "max_length": max_length}
    for item, tokens, score in continuous.decode(model, params, rows, **settings):
        assert item not in results
        whole = np.zeros(max_length, np.int32)
        whole[: len(tokens)] = tokens
        results[item] = whole, score
    return [results[item][0] for item in range(len(rows))], [results[item][1] for item in range(len(rows))]


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_slots_do_not_change_what_is_decoded(batch_size):
    model, params = student()
    rows, expected, expected_scores, _ = rows_of_every_length()
    found, scores = together(model, params, rows, 40, batch_size)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-3)


@pytest.mark.parametrize("scan_layers, tied", [(True, False), (False, True)])
def test_other_shapes_of_the_network(scan_layers, tied):
    model, params = student(scan_layers, tied)
    rows = inputs(9)
    found, _ = together(model, params, rows, 20, 4)
    np.testing.assert_array_equal(found, one_by_one(model, params, rows, 20)[0])


@pytest.mark.parametrize("count, batch_size", [(0, 4), (1, 4), (2, 16), (3, 2), (5, 4)])
def test_few_rows(count, batch_size):
    model, params = student()
    rows = inputs(count, seed=1)
    found, _ = together(model, params, rows, 12, batch_size)
    np.testing.assert_array_equal(found, one_by_one(model, params, rows, 12)[0])


@pytest.mark.parametrize("max_length", [1, 16, 17])
def test_rows_that_never_end_stop_at_the_longest(max_length):
    model, params = student()
    rows = inputs(7, seed=2)
    found, _ = together(model, params, rows, max_length, 4)
    np.testing.assert_array_equal(found, one_by_one(model, params, rows, max_length)[0])


def test_a_long_row_does_not_hold_up_the_others(monkeypatch):
    model, params = student()
    rows, _, _, lengths = rows_of_every_length()
    clock = []
    step = continuous.Slots.step

    def counted(self, stop_at):
        before = self._clock
        ended = step(self, stop_at)
        clock.append(self._clock - before)
        return ended

    monkeypatch.setattr(continuous.Slots, "step", counted)
    together(model, params, rows, 40, 3)
    order = np.argsort([len(row) for row in rows], kind="stable")
    batches = [max(lengths[item] for item in order[start : start + 3]) for start in range(0, 37, 3)]
    assert sum(clock) < sum(batches)


def test_the_last_rows_have_a_batch_of_their_own_size(monkeypatch):
    model, params = student()
    rows = [row[: 5 + number % 13] + [EOS] for number, row in enumerate(inputs(37, seed=3))]
    expected, _ = one_by_one(model, params, rows, 40)
    shapes = []
    step = continuous.Slots.step

    def seen(self, stop_at):
        shapes.append(self._encoded.inputs.shape)
        return step(self, stop_at)

    monkeypatch.setattr(continuous.Slots, "step", seen)
    monkeypatch.setattr(batching, "QUARTERED", 16)
    found, _ = together(model, params, rows, 40, 16)
    np.testing.assert_array_equal(found, expected)
    counts = [count for count, _ in shapes]
    assert counts == sorted(counts, reverse=True) and {16, 4} < set(counts) <= {16, 12, 8, 4, 1}
    assert max(map(len, rows)) <= 18 and {length for count, length in shapes if count < 16} <= {
        10,
        12,
        14,
        16,
        20,
    }
    assert shapes[0][1] == 16 and max(length for _, length in shapes) == 32  # of 17 tokens and more


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, params, inputs, shifted):
    return model.apply({"params": params}, inputs, shifted, shifted, enable_dropout=False)


def exhaustive(model, params, row, texts):
    """Greedy walk among whole texts: at each step those stay that begin with the likeliest token of any."""
    left = list(range(len(texts)))
    log_prob, depth = 0.0, 0
    while len(left) > 1:
        inputs, shifted = np.zeros((1, LONGEST), np.int32), np.zeros((1, 8), np.int32)
        inputs[0, : len(row)] = row
        shifted[0, 1 : depth + 1] = texts[left[0]][:depth]
        logits = logits_of(model, params, inputs, shifted)
        allowed = sorted({texts[number][depth] for number in left})
        scores = np.asarray(jax.nn.log_softmax(logits[0, depth, jnp.array(allowed)]))
        log_prob += float(scores.max())
        left = [number for number in left if texts[number][depth] == allowed[int(scores.argmax())]]
        depth += 1
    return left[0], log_prob


TEXTS = [[5, 6, 7, EOS], [5, 6, EOS], [5, 8, 9, 9, EOS], [10, EOS], [5, 6, 7, 11, EOS]]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_constrained_output_is_the_greedy_walk_among_the_texts(batch_size):
    model, params = student()
    rows = inputs(11, seed=3)
    choices = [TEXTS[: 1 + number % 5] for number in range(len(rows))]
    found = {
        item: (number, score)
        for item, number, score in continuous.choose(
            model, params, rows, choices, batch_size=batch_size, longest=LONGEST
        )
    }
    assert sorted(found) == list(range(len(rows)))
    for item, (number, score) in found.items():
        expected, log_prob = exhaustive(model, params, rows[item], choices[item])
        assert number == expected
        assert score == pytest.approx(log_prob, abs=1e-3)
    assert len({number for number, _ in found.values()}) > 1
