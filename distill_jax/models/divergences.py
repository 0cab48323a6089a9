"""Divergences between a teacher's and a student's distributions, over classes or over tokens.

With `p` the teacher's distribution and `q` the student's, every divergence is multiplied by the square of its
temperature, which keeps the size of the gradients (Hinton et al. 2015, arXiv:1503.02531, section 2).
"""

import jax
import jax.numpy as jnp

from distill_jax.models.losses import in_chunks
from distill_jax.models.sharding import by_shard


def class_divergence(scores: jax.Array, probs: jax.Array, groups: jax.Array, temperature: float) -> jax.Array:
    """KL from a teacher's class probabilities to a student's, at a temperature, times its square.

    `T**2 * sum_c p_c * (log p_c - log q_c)` with `p = softmax(log(probs) / T)` and
    `q = softmax(scores / T)` over the classes of an example (Hinton et al. 2015, arXiv:1503.02531,
    section 2; the square keeps the gradients' size).

    Args:
      scores: float32 [batch, classes], the student's log-probability of each label, however many
        examples share a row.
      probs: float32 [batch, classes], the teacher's; they sum to 1 over an example.
      groups: int32 [batch, classes], the example a class belongs to, from 1; 0 is padding.
      temperature: T, above 0.

    Returns:
      float32 [batch]: the sum over the examples of a row.
    """
    same = (groups[:, :, None] == groups[:, None, :]) & (groups[:, None, :] > 0)
    is_class = groups > 0

    def log_softmax(x):
        # Over the classes of the same example: entry [b, i] minus logsumexp_j of its group.
        spread = jnp.where(same, x[:, None, :], -jnp.inf)
        log_z = jax.nn.logsumexp(jnp.where(is_class[:, :, None], spread, 0.0), axis=-1)
        return x - log_z

    possible = probs > 0.0
    # A class of probability 0 keeps it at every temperature: a finite, very low logit.
    log_p = log_softmax(jnp.where(possible, jnp.log(jnp.where(possible, probs, 1.0)), -1e9) / temperature)
    p = jnp.where(possible & is_class, jnp.exp(log_p), 0.0)
    log_q = log_softmax(scores / temperature)
    return temperature**2 * jnp.sum(jnp.where(p > 0.0, p * (log_p - log_q), 0.0), axis=-1)


DIVERGENCES = ("forward_kl", "reverse_kl", "jensen_shannon")


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

    Args:
      student_logits: float [..., vocab].
      teacher_logits: float [..., vocab]; no gradient flows through them.
      kind: of `DIVERGENCES`.
      temperature: both logits are divided by it.
      beta: of `jensen_shannon`, in (0, 1).

    Returns:
      float32 [...].
    """
    log_q = jax.nn.log_softmax(student_logits.astype(jnp.float32) / temperature)
    teacher_logits = jax.lax.stop_gradient(teacher_logits.astype(jnp.float32))
    log_p = jax.nn.log_softmax(teacher_logits / temperature)
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

    All other tokens together are one more outcome, with the remaining probability of each distribution. So
    the result is at most the divergence of the full distributions, and equal to it where `k` is the vocabulary.

    Args:
      student_logits: float [..., vocab].
      teacher_ids: int32 [..., k], all different.
      teacher_log_probs: float32 [..., k], log-probabilities at `temperature`.
      kind: of `DIVERGENCES`.
      temperature: the student's logits are divided by it.
      beta: of `jensen_shannon`, in (0, 1).

    Returns:
      float32 [...].
    """
    log_q = jax.nn.log_softmax(student_logits.astype(jnp.float32) / temperature)
    top_q = jnp.take_along_axis(log_q, teacher_ids, axis=-1)
    flat = log_q.reshape(-1, log_q.shape[-1])
    rows = jnp.arange(flat.shape[0])[:, None]
    others = flat.at[rows, teacher_ids.reshape(flat.shape[0], -1)].set(-jnp.inf).reshape(log_q.shape)
    rest_q = _logsumexp_or_minus_inf(others)
    # Below 1e-6, 1 - sum(p) is rounding noise of float32.
    rest_p = jnp.log(jnp.maximum(1.0 - jnp.exp(teacher_log_probs).sum(axis=-1), 1e-6))
    rest_p = jnp.where(jnp.isneginf(rest_q), -jnp.inf, rest_p)
    log_p = jnp.concatenate([teacher_log_probs, rest_p[..., None]], axis=-1)
    log_q = jnp.concatenate([top_q, rest_q[..., None]], axis=-1)
    return temperature**2 * _divergence(jax.lax.stop_gradient(log_p), log_q, kind, beta)


def _logsumexp_or_minus_inf(x: jax.Array) -> jax.Array:
    """logsumexp over the last axis, -inf (without a NaN in its gradient) where all of it is -inf."""
    none = jnp.isneginf(x).all(axis=-1, keepdims=True)
    return jnp.where(none[..., 0], -jnp.inf, jax.nn.logsumexp(jnp.where(none, 0.0, x), axis=-1))


def _kl(log_a: jax.Array, log_b: jax.Array) -> jax.Array:
    """`sum a log(a / b)` over the last axis, finite: log 0 in `b` counts as log of the least float32 above 0.

    Outcomes of probability 0 in `a` (-inf) add 0.
    """
    possible = ~jnp.isneginf(log_a)
    log_a = jnp.where(possible, log_a, 0.0)
    log_b = jnp.where(possible, jnp.maximum(log_b, jnp.log(jnp.finfo(jnp.float32).tiny)), 0.0)
    return jnp.sum(jnp.where(possible, jnp.exp(log_a) * (log_a - log_b), 0.0), axis=-1)


def _divergence(log_p: jax.Array, log_q: jax.Array, kind: str, beta: float) -> jax.Array:
    if kind == "forward_kl":
        return _kl(log_p, log_q)
    if kind == "reverse_kl":
        return _kl(log_q, log_p)
    if kind == "jensen_shannon":
        if not 0.0 < beta < 1.0:
            raise ValueError(f"beta must lie in (0, 1), got {beta}")
        log_m = jnp.logaddexp(jnp.log(beta) + log_p, jnp.log1p(-beta) + log_q)
        return beta * _kl(log_p, log_m) + (1.0 - beta) * _kl(log_q, log_m)
    raise ValueError(f"unknown divergence {kind!r}: expected one of {', '.join(DIVERGENCES)}")


def weighted_divergence(states, kernel, weights, chunk, divergence, known, kernels=()):
    """Weighted sum of token divergences, from the decoder's states, in chunks of tokens.

    The logits [tokens, vocab] are never in memory as a whole: those of a chunk are recomputed for its gradient.

    Args:
      states: [tokens, emb_dim], the student's.
      kernel: [emb_dim, vocab].
      weights: float32 [tokens].
      chunk: tokens per chunk, of each shard of the batch.
      divergence: (student logits [chunk, vocab], *chunks of `known`, *`kernels`) -> [chunk].
      known: the teacher's side, arrays [tokens, ...]: its states, or its top-k ids and log-probabilities.
      kernels: output projections that `divergence` needs, [emb_dim, vocab].

    Returns:
      float32 scalar.
    """

    def total(states, weights, *rest):
        known, (kernel, *kernels) = rest[:split], rest[split:]

        @jax.checkpoint
        def body(total, xs):
            x, w, *chunks = xs
            logits = x.astype(jnp.float32) @ kernel.astype(jnp.float32)
            return total + jnp.sum(w * divergence(logits, *chunks, *kernels)), None

        chunks = in_chunks(min(chunk, states.shape[0]), states, weights, *known)
        return jax.lax.scan(body, jnp.zeros((), jnp.float32), tuple(chunks))[0]

    split = len(known)
    return by_shard(total, (states, weights, *known), (kernel, *kernels), ("embed", "vocab"), jnp.sum)
