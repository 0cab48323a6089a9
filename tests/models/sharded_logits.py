"""Run by test_logits in a process of 8 simulated devices: losses and gradients, spread and not."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from distill_jax.models import divergences
from distill_jax.models.config import T5Config
from distill_jax.models.layers import Embed
from distill_jax.models.logits import token_log_probs, weighted_cross_entropy
from distill_jax.planning import hlo
from distill_jax.training import partitioning
from distill_jax.training.mesh import DEFAULT

TOKENS, EMBED, VOCAB = 64, 16, 128
rng = np.random.default_rng(0)
states = jnp.asarray(rng.normal(size=(TOKENS, EMBED)), jnp.float32)
other = jnp.asarray(rng.normal(size=(TOKENS, EMBED)), jnp.float32)
kernel = jnp.asarray(rng.normal(size=(EMBED, VOCAB)), jnp.float32)
targets = jnp.asarray(rng.integers(0, VOCAB, TOKENS))
weights = jnp.asarray(rng.random(TOKENS), jnp.float32)
embed = Embed(VOCAB, EMBED, "float32")


def cross_entropy(states, kernel):
    return weighted_cross_entropy(states, kernel, targets, weights, 5, 1e-3)[0]


def to_teacher(logits, states, kernel):
    return divergences.token_divergence(logits, states @ kernel, "jensen_shannon")


def divergence(states, kernel):
    return divergences.weighted_divergence(states, kernel, weights, 5, to_teacher, [other], [kernel])


def log_probs(states, kernel):
    return jnp.sum(weights * token_log_probs(states, kernel, targets, 5))


def lookup(states, kernel):
    rows = embed.apply({"params": {"embedding": kernel.T}}, targets.reshape(8, -1))
    return jnp.sum(rows.reshape(TOKENS, EMBED) * states)


MESH = {"data": 2, "fsdp": 2, "model": 2}
place = partitioning.make_partitioner(T5Config(VOCAB, emb_dim=EMBED), 8, 1, MESH, DEFAULT)
spread = (place.sharding("batch", None), place.sharding("embed", "vocab"))
for function in (cross_entropy, divergence, log_probs, lookup):
    expected = jax.value_and_grad(function, (0, 1))(states, kernel)
    with place.active():
        step = jax.jit(jax.value_and_grad(function, (0, 1)), in_shardings=spread, out_shardings=(None, spread))
        compiled = step.lower(states, kernel).compile()
        found = compiled(*jax.device_put((states, kernel), spread))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-5), found, expected)
    moved = hlo.collectives(compiled.as_text(), 8)
    # Nothing that grows with the vocabulary moves more than once, and no logits at all.
    big = [c for c in moved if c.size >= EMBED * VOCAB * 4 // 2]
    assert big and all(c.count <= 2 for c in big), (function.__name__, moved)  # twice: the teacher's too
    assert all(c.size <= EMBED * VOCAB * 4 for c in moved), (function.__name__, moved)
    print(function.__name__, "ok", flush=True)
