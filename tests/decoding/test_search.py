import functools
import itertools
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_jax.decoding import search
from distill_jax.models.config import T5Config
from distill_jax.models.t5 import Transformer
from distill_jax.training import train_state

EOS = 1


def small(vocab_size=12, **changes):
    shape = {
        "vocab_size": vocab_size,
        "emb_dim": 16,
        "num_heads": 2,
        "num_encoder_layers": 2,
        "num_decoder_layers": 2,
        "head_dim": 8,
        "mlp_dim": 32,
        "mlp_activations": ("gelu", "linear"),
    }
    model = Transformer(T5Config(**shape | changes))
    params = train_state.init_params(model, 3)
    # Larger logits than at the start of training: hypotheses should differ clearly.
    return model, jax.tree.map(lambda x: x * 1.5, params)


beam = jax.jit(
    search.beam_decode,
    static_argnums=0,
    static_argnames=("max_decode_length", "num_beams", "beam_rule"),
)
INPUTS = jnp.array([[5, 6, 7, 1, 0, 0], [8, 1, 0, 0, 0, 0], [3, 4, 5, 6, 7, 1]], jnp.int32)


@functools.partial(jax.jit, static_argnums=0)
def log_probs_of(model, params, inputs, targets):
    """Teacher-forced log-probabilities [batch, length, vocab], without any cache."""
    shifted = jnp.pad(targets, ((0, 0), (1, 0)))[:, :-1]
    logits = model.apply({"params": params}, inputs, shifted, jnp.ones_like(targets), enable_dropout=False)
    return jax.nn.log_softmax(logits)


def uncached_greedy(model, params, inputs, length):
    tokens = np.zeros((inputs.shape[0], length), np.int32)
    scores, ended = np.zeros(inputs.shape[0]), np.zeros(inputs.shape[0], bool)
    for step in range(length):
        log_probs = np.asarray(log_probs_of(model, params, inputs, jnp.asarray(tokens)))[:, step]
        best = log_probs.argmax(-1)
        scores += np.where(ended, 0, log_probs.max(-1))
        tokens[:, step] = np.where(ended, 0, best)
        ended |= best == EOS
    return tokens, scores


@pytest.mark.parametrize("scan_layers", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_the_cached_decoder_equals_the_uncached(scan_layers, tied):
    model, params = small(scan_layers=scan_layers, logits_via_embedding=tied)
    tokens, scores = draw(model, params, INPUTS, temperature=0.0, max_decode_length=9, num_samples=1)
    expected, expected_scores = uncached_greedy(model, params, INPUTS, 9)
    np.testing.assert_array_equal(tokens[:, 0], expected)
    np.testing.assert_allclose(scores[:, 0], expected_scores, atol=1e-4)


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.5])
def test_a_wide_beam_finds_what_exhaustive_search_finds(penalty):
    vocab, length = 4, 3
    model, params = small(vocab_size=vocab)
    hypotheses = []
    for size in range(1, length + 1):
        for body in itertools.product([t for t in range(vocab) if t != EOS], repeat=size - 1):
            hypotheses.append([*body, EOS] + [0] * (length - size))
    sizes = [h.index(EOS) + 1 for h in hypotheses]
    # Those that the limit cuts are ranked too.
    hypotheses += map(list, itertools.product([t for t in range(vocab) if t != EOS], repeat=length))
    sizes = np.array(sizes + [length] * (len(hypotheses) - len(sizes)))
    beams = 32  # more than the hypotheses alive at any step
    for row in range(INPUTS.shape[0]):
        inputs = jnp.minimum(INPUTS[row : row + 1], vocab - 1)
        targets = jnp.asarray(hypotheses, jnp.int32)
        repeated = jnp.repeat(inputs, len(hypotheses), axis=0)
        log_probs = np.asarray(log_probs_of(model, params, repeated, targets))
        picked = np.take_along_axis(log_probs, np.asarray(targets)[..., None], axis=-1)[..., 0]
        counted = np.arange(length)[None] < sizes[:, None]
        scores = (picked * counted).sum(1) / sizes**penalty
        order = np.argsort(-scores)
        tokens, found = beam(
            model, params, inputs, max_decode_length=length, num_beams=beams, length_penalty=penalty
        )
        top = 5
        np.testing.assert_allclose(found[0, :top], scores[order[:top]], atol=1e-4)
        np.testing.assert_array_equal(tokens[0, 0], hypotheses[order[0]])


def test_the_beams_of_a_row_do_not_depend_on_the_other_rows():
    model, params = small()
    together = beam(model, params, INPUTS, max_decode_length=6, num_beams=3)
    for row in range(INPUTS.shape[0]):
        alone = beam(model, params, INPUTS[row : row + 1], max_decode_length=6, num_beams=3)
        np.testing.assert_array_equal(together[0][row], alone[0][0])
        np.testing.assert_allclose(together[1][row], alone[1][0], atol=1e-4)


def test_nothing_follows_the_end_token():
    model, params = small()
    tokens, _ = beam(model, params, INPUTS, max_decode_length=12, num_beams=4)
    ended = np.cumsum(np.asarray(tokens) == EOS, axis=-1) > 0
    after = np.roll(ended, 1, axis=-1)
    after[..., 0] = False
    assert (np.asarray(tokens)[after] == 0).all()


SHALLOW = {"num_encoder_layers": 1, "num_decoder_layers": 1}
sample = jax.jit(search.sample_decode, static_argnums=0, static_argnames=("max_decode_length", "num_samples"))


def draw(model, params, inputs, *, seed=0, streams=None, temperature=1.0, top_k=0, top_p=1.0, **static):
    rows = len(inputs)
    streams = np.arange(rows) if streams is None else streams
    return sample(
        model,
        params,
        inputs,
        np.uint32(seed),
        np.asarray(streams, np.uint32),
        np.full(rows, temperature, np.float32),
        np.full(rows, top_k, np.int32),
        np.full(rows, top_p, np.float32),
        **static,
    )


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"top_k": 1}, {"top_p": 1e-6}])
def test_sampling_that_leaves_one_token_is_greedy(settings):
    model, params = small(**SHALLOW)
    tokens, scores = draw(model, params, INPUTS, max_decode_length=6, num_samples=2, **settings)
    expected, expected_scores = uncached_greedy(model, params, INPUTS, 6)
    for number in range(2):
        np.testing.assert_array_equal(tokens[:, number], expected)
        np.testing.assert_allclose(scores[:, number], expected_scores, atol=1e-4)


def test_samples_follow_the_distribution_of_whole_sequences():
    vocab, length, count = 4, 2, 4000
    model, params = small(vocab_size=vocab, **SHALLOW)
    inputs = jnp.minimum(INPUTS[:1], vocab - 1)
    sequences = [(EOS, 0)] + [(a, b) for a in (0, 2, 3) for b in range(vocab)]
    log_probs = np.asarray(
        log_probs_of(model, params, jnp.repeat(inputs, len(sequences), axis=0), jnp.asarray(sequences))
    )
    for temperature in (1.0, 0.5):
        scaled = np.asarray(jax.nn.log_softmax(log_probs / temperature))
        expected = []
        for number, (a, b) in enumerate(sequences):
            second = 0.0 if a == EOS else scaled[number, 1, b]
            expected.append(np.exp(scaled[number, 0, a] + second))
        assert sum(expected) == pytest.approx(1.0, abs=1e-4)
        tokens, scores = draw(
            model, params, inputs, temperature=temperature, max_decode_length=length, num_samples=count
        )
        drawn = [tuple(row) for row in np.asarray(tokens[0]).tolist()]
        shares = np.array([drawn.count(sequence) for sequence in sequences]) / count
        assert shares.sum() == pytest.approx(1.0)
        spread = np.sqrt(np.array(expected) * (1 - np.array(expected)) / count)
        assert (np.abs(shares - expected) < 4.5 * spread + 1e-3).all()
        # The scores are the model's own, whatever the temperature.
        for number, sequence in enumerate(sequences):
            if sequence in drawn:
                own = log_probs[number, 0, sequence[0]]
                own += 0.0 if sequence[0] == EOS else log_probs[number, 1, sequence[1]]
                assert float(scores[0, drawn.index(sequence)]) == pytest.approx(own, abs=1e-4)


def test_a_sample_depends_on_seed_stream_and_number_alone():
    model, params = small(**SHALLOW)
    static = {"max_decode_length": 6, "num_samples": 2}
    together, _ = draw(model, params, INPUTS, seed=7, **static)
    alone, _ = draw(model, params, INPUTS[1:2], seed=7, streams=[1], **static)
    np.testing.assert_array_equal(together[1], alone[0])
    fewer, _ = draw(model, params, INPUTS, seed=7, max_decode_length=6, num_samples=1)
    np.testing.assert_array_equal(together[:, :1], fewer)
    other, _ = draw(model, params, INPUTS, seed=8, **static)
    assert (np.asarray(other) != np.asarray(together)).any()
    assert any((np.asarray(together[row, 0]) != np.asarray(together[row, 1])).any() for row in range(3))


def test_truncation_is_that_of_transformers():
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    logits = np.random.default_rng(0).normal(0, 3, (6, 40)).astype(np.float32)
    top_k, top_p = [0, 5, 0, 5, 1, 40], [1.0, 1.0, 0.8, 0.6, 0.5, 0.99]
    ours = search.truncate_logits(jnp.asarray(logits), jnp.asarray(top_k), jnp.asarray(top_p, jnp.float32))
    for row in range(6):
        theirs = torch.tensor(logits[row : row + 1])
        if top_k[row]:
            theirs = transformers.TopKLogitsWarper(top_k[row])(None, theirs)
        if top_p[row] < 1.0:
            theirs = transformers.TopPLogitsWarper(top_p[row])(None, theirs)
        np.testing.assert_array_equal(np.isfinite(ours[row]), np.isfinite(theirs[0].numpy()))


def test_rows_with_different_settings_share_a_batch():
    model, params = small(**SHALLOW)
    rows = [(0.0, 0, 1.0), (1.0, 2, 1.0), (1.0, 0, 0.5)]
    temperature, top_k, top_p = (np.array(column) for column in zip(*rows, strict=True))
    together, _ = sample(
        model,
        params,
        INPUTS,
        np.uint32(1),
        np.arange(3, dtype=np.uint32),
        temperature.astype(np.float32),
        top_k.astype(np.int32),
        top_p.astype(np.float32),
        max_decode_length=6,
        num_samples=2,
    )
    for row, (t, k, p) in enumerate(rows):
        alone, _ = draw(
            model,
            params,
            INPUTS[row : row + 1],
            seed=1,
            streams=[row],
            temperature=t,
            top_k=k,
            top_p=p,
            max_decode_length=6,
            num_samples=2,
        )
        np.testing.assert_array_equal(together[row], alone[0])


@pytest.fixture
def beams_of(monkeypatch):
    """Beam search where the next token's log-probabilities are the same at every step."""

    def run(log_probs, **settings):
        def step(model, params, caches, inputs, last, length):
            return jnp.tile(log_probs, (len(last), 1)), caches

        monkeypatch.setattr(search, "_start", lambda model, params, inputs, length: {"cache": {}})
        monkeypatch.setattr(search, "_repeat", lambda caches, batch, times: caches)
        monkeypatch.setattr(search, "_step", step)
        model = types.SimpleNamespace(config=types.SimpleNamespace(pad_id=0))
        tokens, scores = search.beam_decode(model, None, jnp.ones((1, 3), jnp.int32), **settings)
        return tokens[0].tolist(), scores[0].tolist()

    return run


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0])
def test_what_the_limit_cuts(beams_of, penalty):
    # The next token is 7 with probability 0.9, and the end with 0.05.
    log_probs = jnp.log(jnp.full(16, 0.05 / 14).at[7].set(0.9).at[EOS].set(0.05))
    settings = {"max_decode_length": 6, "num_beams": 2, "length_penalty": penalty}
    tokens, scores = beams_of(log_probs, **settings)
    assert tokens[0] == [7] * 6
    assert scores[0] == pytest.approx(6 * math.log(0.9) / 6**penalty, abs=1e-4)
    # T5X has two that have ended, and so leaves out a much likelier one.
    tokens, scores = beams_of(log_probs, beam_rule="t5x", **settings)
    assert all(EOS in hypothesis for hypothesis in tokens)
    sizes = [hypothesis.index(EOS) + 1 for hypothesis in tokens]
    expected = [(math.log(0.05) + (n - 1) * math.log(0.9)) / ((5 + n) / 6) ** penalty for n in sizes]
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_an_end_that_is_not_among_the_best_continuations(beams_of):
    log_probs = jnp.log(jnp.full(16, 0.01 / 12).at[jnp.array([7, 8, EOS])].set(jnp.array([0.5, 0.3, 0.19])))
    settings = {"max_decode_length": 2, "num_beams": 2, "length_penalty": 0.0}
    assert beams_of(log_probs, **settings)[0] == [[7, 7], [7, 8]]
    assert beams_of(log_probs, beam_rule="t5x", **settings)[0] == [[EOS, 0], [7, EOS]]


@pytest.mark.parametrize("rule", ["transformers", "t5x"])
def test_ties_go_to_the_lower_id_and_no_hypothesis_comes_twice(beams_of, rule):
    settings = {"max_decode_length": 3, "num_beams": 4, "length_penalty": 0.0, "beam_rule": rule}
    tokens, scores = beams_of(jnp.full(16, -math.log(16)), **settings)
    assert len({tuple(hypothesis) for hypothesis in tokens}) == 4
    assert tokens[0] == [EOS, 0, 0]
    assert scores[0] == pytest.approx(-math.log(16), abs=1e-5)
    assert beams_of(jnp.full(16, -math.log(16)), **settings) == (tokens, scores)
