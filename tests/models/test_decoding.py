import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_jax.models import decoding
from distill_jax.models.config import T5Config
from distill_jax.models.t5 import Transformer

EOS = 1


def small(vocab_size=12, **changes):
    config = T5Config(
        vocab_size=vocab_size,
        emb_dim=16,
        num_heads=2,
        num_encoder_layers=2,
        num_decoder_layers=2,
        head_dim=8,
        mlp_dim=32,
        mlp_activations=("gelu", "linear"),
        **changes,
    )
    model = Transformer(config)
    tokens = jnp.ones((1, 4), jnp.int32)
    init = jax.jit(functools.partial(model.init, enable_dropout=False))
    params = init(jax.random.key(3), tokens, tokens, tokens)["params"]
    # Larger logits than at the start of training: hypotheses should differ clearly.
    return model, jax.tree.map(lambda x: x * 1.5, params)


greedy = jax.jit(decoding.greedy_decode, static_argnums=0, static_argnames=("max_decode_length",))
beam = jax.jit(
    decoding.beam_decode,
    static_argnums=0,
    static_argnames=("max_decode_length", "num_beams", "length_penalty"),
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
def test_cached_greedy_equals_uncached(scan_layers, tied):
    model, params = small(scan_layers=scan_layers, logits_via_embedding=tied)
    tokens, scores = greedy(model, params, INPUTS, max_decode_length=9)
    expected, expected_scores = uncached_greedy(model, params, INPUTS, 9)
    np.testing.assert_array_equal(tokens, expected)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-4)


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.5])
def test_a_wide_beam_finds_what_exhaustive_search_finds(penalty):
    vocab, length = 4, 3
    model, params = small(vocab_size=vocab)
    hypotheses = []
    for size in range(1, length + 1):
        for body in itertools.product([t for t in range(vocab) if t != EOS], repeat=size - 1):
            hypotheses.append([*body, EOS] + [0] * (length - size))
    sizes = np.array([h.index(EOS) + 1 for h in hypotheses])
    beams = 16  # more than the hypotheses alive at any step
    for row in range(INPUTS.shape[0]):
        inputs = jnp.minimum(INPUTS[row : row + 1], vocab - 1)
        targets = jnp.asarray(hypotheses, jnp.int32)
        repeated = jnp.repeat(inputs, len(hypotheses), axis=0)
        log_probs = np.asarray(log_probs_of(model, params, repeated, targets))
        picked = np.take_along_axis(log_probs, np.asarray(targets)[..., None], axis=-1)[..., 0]
        counted = np.arange(length)[None] < sizes[:, None]
        scores = (picked * counted).sum(1) / ((5 + sizes) / 6) ** penalty
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
