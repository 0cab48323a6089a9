"""Divergences between a teacher's and a student's distributions, over classes or over tokens.

With `p` the teacher's distribution and `q` the student's, every divergence is multiplied by the square of its
temperature, which keeps the size of the gradients (Hinton et al. 2015, arXiv:1503.02531, section 2).
"""

import jax
import jax.numpy as jnp

from distill_jax.models.logits import in_chunks, project
from distill_jax.models.sharding import by_shard


def class_divergence(scores: jax.Array, probs: jax.Array, groups: jax.Array, temperature: float) -> jax.Array:
    """KL from a teacher's class probabilities to a student's, summed over a row's examples: float32 [batch].

    `T**2 * sum_c p_c * (log p_c - log q_c)` with `p = softmax(log(probs) / T)` and `q = softmax(scores / T)`
    over the classes of an example.

    Args:
      scores: float32 [batch, classes], the student's log-probability of each label, however many
        examples share a row.
      probs: float32 [batch, classes], the teacher's; they sum to 1 over an example.
      groups: int32 [batch, classes], the example a class belongs to, from 1; 0 is padding.
      temperature: T, above 0.
    """
    same = (groups[:, :, None] == groups[:, None, :]) & (groups[:, None, :] > 0)
    is_class = groups > 0

    def log_softmax(x):
        # Over the classes of the same example: entry [b, i] minus logsumexp_j of its group.
        spread = jnp.where(same, x[:, None, :], -jnp.inf)
        log_z = jax.nn.logsumexp(jnp.where(is_class[:, :, None], spread, 0.0), axis=-1)
        return x - log_z

    possible = probs > 0.0
    # A class the teacher rules out stays out at every temperature: a finite, very low logit.
    log_p = log_softmax(jnp.where(possible, jnp.log(jnp.where(possible, probs, 1.0)), -1e9) / temperature)
    p = jnp.where(possible & is_class, jnp.exp(log_p), 0.0)
    log_q = log_softmax(jnp.clip(scores / temperature, -1e30, 1e30))
    return temperature**2 * jnp.sum(jnp.where(p > 0.0, p * (log_p - log_q), 0.0), axis=-1)


DIVERGENCES = ("forward_kl", "reverse_kl", "jensen_shannon")
RULED_OUT = -1e4  # a teacher's log-probability counts as at least this where a divergence divides by it


def token_divergence(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    kind: str = "forward_kl",
    temperature: float = 1.0,
    beta: float = 0.5,
) -> jax.Array:
    """Divergence of two next-token distributions `p` (teacher) and `q` (student), times `T**2`.

    - `forward_kl`: `sum p log(p / q)` (Hinton et al. 2015).
    - `reverse_kl`: `sum q log(q / p)` (Gu et al. 2024, arXiv:2306.08543).
    - `jensen_shannon`, generalised: `beta KL(p | m) + (1 - beta) KL(q | m)` with
      `m = beta p + (1 - beta) q` (Agarwal et al. 2024, arXiv:2306.13649, eq. 1).

    Value and gradient are finite for all logits, infinite ones too: `log p` counts as at least `RULED_OUT` in
    `reverse_kl`.

    Args:
      student_logits: float [..., vocab].
      teacher_logits: float [..., vocab]; no gradient flows through them.
      kind: of `DIVERGENCES`.
      temperature: both logits are divided by it.
      beta: of `jensen_shannon`, in (0, 1).

    Returns:
      float32 [...].
    """
    log_q = _log_softmax(student_logits, temperature)
    log_p = jax.lax.stop_gradient(_log_softmax(teacher_logits, temperature))
    return temperature**2 * _divergence(log_p, log_q, kind, beta)


def top_k_divergence(
    student_logits: jax.Array,
    teacher_ids: jax.Array,
    teacher_log_probs: jax.Array,
    kind: str = "forward_kl",
    temperature: float = 1.0,
    beta: float = 0.5,
) -> jax.Array:
    """`token_divergence` where only the teacher's `k` likeliest tokens are known.

    All other tokens are one outcome more, with what is left of both distributions: so it is at most the
    divergence of the whole distributions, and equal to it where `k` is the vocabulary. Ids that the student
    lacks are left out, and the teacher's other probabilities scaled to a sum of 1.

    Args:
      student_logits: float [..., vocab].
      teacher_ids: int32 [..., k], all different.
      teacher_log_probs: float32 [..., k], log-probabilities at `temperature`.
      kind: with `beta` as of `token_divergence`.
      temperature: the student's logits are divided by it.

    Returns:
      float32 [...].
    """
    log_q = _log_softmax(student_logits, temperature)
    shared = teacher_ids < log_q.shape[-1]
    top_q = jnp.where(shared, jnp.take_along_axis(log_q, teacher_ids, axis=-1, mode="clip"), -jnp.inf)
    flat = log_q.reshape(-1, log_q.shape[-1])
    rows = jnp.arange(flat.shape[0])[:, None]
    ids = teacher_ids.reshape(flat.shape[0], -1)
    others = flat.at[rows, ids].set(-jnp.inf, mode="drop").reshape(log_q.shape)
    rest_q = _logsumexp_of_some(others)
    # What float32 leaves of 1 - sum(p) is noise below 1e-6.
    rest_p = jnp.log(jnp.maximum(1.0 - jnp.exp(teacher_log_probs).sum(axis=-1), 1e-6))
    rest_p = jnp.where(jnp.isneginf(rest_q), -jnp.inf, rest_p)
    top_p = jnp.where(shared, teacher_log_probs, -jnp.inf)
    log_p = jnp.concatenate([top_p, rest_p[..., None]], axis=-1)
    log_p -= jnp.maximum(_logsumexp_of_some(log_p), RULED_OUT)[..., None]
    log_q = jnp.concatenate([top_q, rest_q[..., None]], axis=-1)
    return temperature**2 * _divergence(jax.lax.stop_gradient(log_p), log_q, kind, beta)


def _log_softmax(logits: jax.Array, temperature: float) -> jax.Array:
    """float32 log-probabilities at a temperature, finite also where float32 or a logit is not."""
    return jax.nn.log_softmax(jnp.clip(logits.astype(jnp.float32) / temperature, -1e30, 1e30))


def _logsumexp_of_some(x: jax.Array) -> jax.Array:
    """logsumexp over the last axis, -inf (without a NaN in its gradient) where all of it is -inf."""
    none = jnp.isneginf(x).all(axis=-1, keepdims=True)
    return jnp.where(none[..., 0], -jnp.inf, jax.nn.logsumexp(jnp.where(none, 0.0, x), axis=-1))


def _kl(log_a: jax.Array, log_b: jax.Array) -> jax.Array:
    """`sum a log(a / b)` over the last axis; outcomes that `a` rules out (-inf) add nothing."""
    possible = ~jnp.isneginf(log_a)
    log_a, log_b = jnp.where(possible, log_a, 0.0), jnp.where(possible, log_b, 0.0)
    return jnp.sum(jnp.where(possible, jnp.exp(log_a) * (log_a - log_b), 0.0), axis=-1)


def _divergence(log_p: jax.Array, log_q: jax.Array, kind: str, beta: float) -> jax.Array:
    if kind == "forward_kl":
        return _kl(log_p, log_q)
    least_p = jnp.maximum(log_p, RULED_OUT)
    if kind == "reverse_kl":
        return _kl(log_q, least_p)
    if kind == "jensen_shannon":
        if not 0.0 < beta < 1.0:
            raise ValueError(f"beta must lie in (0, 1), got {beta}")
        log_m = jnp.logaddexp(jnp.log(beta) + least_p, jnp.log1p(-beta) + log_q)
        return beta * _kl(log_p, log_m) + (1.0 - beta) * _kl(log_q, log_m)
    raise ValueError(f"unknown divergence {kind!r}: expected one of {', '.join(DIVERGENCES)}")


def weighted_divergence(states, kernel, weights, chunk, divergence, known, kernels=(), cap=0.0):
    """Weighted sum of token divergences (float32 scalar), from the decoder's states, in chunks of tokens.

    `[tokens, vocab]` is not held whole: the logits of a chunk are computed again for its gradient.

    Args:
      states: [tokens, emb_dim], the student's.
      kernel: [emb_dim, vocab].
      weights: float32 [tokens].
      chunk: tokens per chunk, of each shard of the batch.
      divergence: (student logits [chunk, vocab], *chunks of `known`, *`kernels`) -> [chunk].
      known: what is known of the teacher, arrays [tokens, ...].
      kernels: output projections that `divergence` needs, [emb_dim, vocab].
      cap: of the student's logits, see `logits.project`.
    """

    def total(states, weights, *rest):
        known, (kernel, *kernels) = rest[:split], rest[split:]

        @jax.checkpoint
        def body(total, xs):
            x, w, *chunks = xs
            return total + jnp.sum(w * divergence(project(x, kernel, cap), *chunks, *kernels)), None

        chunks = in_chunks(chunk, states, weights, *known)
        return jax.lax.scan(body, jnp.zeros((), jnp.float32), tuple(chunks))[0]

    split = len(known)
    return by_shard(total, (states, weights, *known), (kernel, *kernels), ("embed", "vocab"), jnp.sum)
