import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from tiny_student import TINY

from distill_jax.decoding import likelihood
from distill_jax.models.t5 import Transformer
from distill_jax.training import train_state

INPUTS = jnp.array([[5, 6, 7, 1, 0, 0], [8, 1, 0, 0, 0, 0]], jnp.int32)
TARGETS = jnp.array([[3, 4, 1, 5, 1, 0], [6, 1, 7, 7, 1, 0]], jnp.int32)
SEGMENTS = jnp.array([[1, 1, 1, 2, 2, 0], [1, 1, 2, 2, 2, 0]], jnp.int32)


def model_and_params():
    model = Transformer(dataclasses.replace(TINY, vocab_size=12))
    return model, train_state.init_params(model, 2)


@functools.partial(jax.jit, static_argnums=0)
def plain(model, params, inputs, target):
    """Log-probabilities [length, vocab] of one target of one input."""
    shifted = jnp.pad(target, (1, 0))[:-1]
    logits = model.apply({"params": params}, inputs[None], shifted[None], target[None], enable_dropout=False)
    return jax.nn.log_softmax(logits[0])


def test_packed_targets_score_as_each_alone():
    model, params = model_and_params()
    encoded = jax.jit(likelihood.encode, static_argnums=0)(model, params, INPUTS)
    rest = (model, params, encoded, INPUTS, TARGETS, SEGMENTS)
    scores = np.asarray(jax.jit(likelihood.score_tokens, static_argnums=0)(*rest))
    likeliest = jax.jit(likelihood.likeliest_tokens, static_argnums=0, static_argnames="count")
    tokens, log_probs = likeliest(*rest, count=3)
    for row in range(2):
        for segment in (1, 2):
            places = np.flatnonzero(np.asarray(SEGMENTS[row]) == segment)
            target = TARGETS[row, places]
            expected = np.asarray(plain(model, params, INPUTS[row], target))
            np.testing.assert_allclose(
                scores[row, places], expected[np.arange(len(places)), np.asarray(target)], atol=1e-5
            )
            best = np.argsort(-expected, axis=-1)[:, :3]
            np.testing.assert_array_equal(tokens[row, places], best)
            np.testing.assert_allclose(
                log_probs[row, places], np.take_along_axis(expected, best, axis=-1), atol=1e-5
            )
