"""The losses: which tokens count how much, and their cross entropy without the whole logits.

A method's loss is a weighted sum of token cross entropies, `sum(weights * cross_entropy)`. All that is
particular to a method is in the weights, which need only the token counts of the global batch: so the
same loss comes out however the batch is packed, split into microbatches or spread over devices.
"""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp

from distill_jax.data.views import TASK_IDS
from distill_jax.models.product import transposed
from distill_jax.models.sharding import by_shard


def standard_weights() -> dict[str, float]:
    """Weights of fine-tuning and of task distillation: the mean over the label tokens."""
    return {"label": 1.0}


def step_by_step_weights(alpha: float = 0.5) -> dict[str, float]:
    """Weights of distilling step-by-step: `alpha` on the label mean, the rest on the rationale mean.

    Hsieh et al. 2023 (arXiv:2305.02301), eq. 4 and `TaskPrefixTrainer` of its reference code.
    """
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha must lie in [0, 1], got {alpha}")
    return {"label": alpha, "rationale": 1.0 - alpha}


def token_weights(
    decoder_task_ids: jax.Array, decoder_loss_weights: jax.Array, view_weights: Mapping[str, float]
) -> jax.Array:
    """Spreads each view's weight evenly over that view's tokens in the batch.

    Token `i` of view `v` gets `view_weights[v] * w_i / sum_{j in v} w_j`, so that the weighted sum of
    cross entropies is `sum_v view_weights[v] * mean_v(cross entropy)`: each view is a mean over its own
    tokens. A view without tokens in the batch adds nothing.

    Args:
      decoder_task_ids: int32 [batch, length], 0 is padding, else a value of `views.TASK_IDS`.
      decoder_loss_weights: float32 [batch, length], 0 where a token does not count.
      view_weights: weight of each view by name; a view that is not named weighs nothing.

    Returns:
      float32 [batch, length].
    """
    weights = jnp.zeros(decoder_loss_weights.shape, jnp.float32)
    for view, weight in view_weights.items():
        own = jnp.where(decoder_task_ids == TASK_IDS[view], decoder_loss_weights, 0.0)
        weights += weight * own / jnp.maximum(own.sum(), 1e-9)
    return weights


def _chunk_terms(states, kernel, targets, z_loss):
    """Logits of one chunk and, per token, cross entropy (with the z-loss) and correctness."""
    logits = states.astype(jnp.float32) @ kernel.astype(jnp.float32)  # [chunk, vocab]
    largest = jnp.max(logits, axis=-1)
    log_z = largest + jnp.log(jnp.sum(jnp.exp(logits - largest[:, None]), axis=-1))
    chosen = _pick(logits, targets)
    cross_entropy = log_z - chosen
    correct = (chosen == largest).astype(jnp.float32)
    return logits, log_z, cross_entropy + z_loss * log_z**2, cross_entropy, correct


def _pick(logits, targets):
    """The targets' logits: [chunk, vocab], int32 [chunk] -> [chunk]."""
    return jnp.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]


def _in_chunks(chunk, *arrays):
    """Pads token-major arrays to whole chunks: [tokens, ...] -> [chunks, chunk, ...]."""
    tokens = arrays[0].shape[0]
    pad = -tokens % chunk
    return [jnp.pad(a, [(0, pad)] + [(0, 0)] * (a.ndim - 1)).reshape(-1, chunk, *a.shape[1:]) for a in arrays]


def weighted_cross_entropy(states, kernel, targets, weights, chunk=2048, z_loss=0.0):
    """Weighted sum of token cross entropies, from decoder states, in chunks of tokens.

    `[tokens, vocab]` is never held whole, forward or backward: since the weights are known, the
    gradients are taken in the same pass over the chunks as the loss, with no second forward.

    Args:
      states: [tokens, emb_dim], the decoder's output after its final norm.
      kernel: [emb_dim, vocab], the output projection.
      targets: int32 [tokens].
      weights: float32 [tokens]; not differentiated.
      chunk: tokens per chunk, of each shard of the batch.
      z_loss: factor of `log(Z)**2` added to each token's loss, as in T5X (Mesh TensorFlow).

    Returns:
      `(loss, cross_entropy, correct)`: float32 scalar, and float32 [tokens] twice, for metrics only:
      no gradient flows through them.
    """
    return by_shard(
        lambda states, targets, weights, kernel: _cross_entropy(
            states, kernel, targets, weights, chunk, z_loss
        ),
        (states, targets, weights),
        (kernel,),
        ("embed", "vocab"),
        lambda parts: (parts[0].sum(), parts[1].reshape(-1), parts[2].reshape(-1)),
    )


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _cross_entropy(states, kernel, targets, weights, chunk, z_loss):
    chunk = min(chunk, states.shape[0])

    def body(_, xs):
        x, t, w = xs
        _, _, loss, cross_entropy, correct = _chunk_terms(x, kernel, t, z_loss)
        return None, (jnp.sum(w * loss), cross_entropy, correct)

    _, (loss, cross_entropy, correct) = jax.lax.scan(
        body, None, tuple(_in_chunks(chunk, states, targets, weights))
    )
    tokens = states.shape[0]
    return loss.sum(), cross_entropy.reshape(-1)[:tokens], correct.reshape(-1)[:tokens]


def _forward(states, kernel, targets, weights, chunk, z_loss):
    chunk = min(chunk, states.shape[0])

    def body(kernel_grad, xs):
        x, t, w = xs
        logits, log_z, loss, cross_entropy, correct = _chunk_terms(x, kernel, t, z_loss)
        probabilities = jnp.exp(logits - log_z[:, None])
        logits_grad = probabilities * (w * (1.0 + 2.0 * z_loss * log_z))[:, None]
        # A comparison, not a scatter: XLA runs scatters on CPU one update at a time.
        is_target = jnp.arange(kernel.shape[1])[None, :] == t[:, None]
        logits_grad -= jnp.where(is_target, w[:, None], 0.0)
        states_grad = logits_grad @ kernel.astype(jnp.float32).T
        kernel_grad += transposed(x.astype(jnp.float32)) @ logits_grad
        return kernel_grad, (jnp.sum(w * loss), cross_entropy, correct, states_grad)

    kernel_grad, (loss, cross_entropy, correct, states_grad) = jax.lax.scan(
        body,
        jnp.zeros(kernel.shape, jnp.float32),
        tuple(_in_chunks(chunk, states, targets, weights)),
    )
    tokens = states.shape[0]
    states_grad = states_grad.reshape(-1, states.shape[1])[:tokens].astype(states.dtype)
    out = loss.sum(), cross_entropy.reshape(-1)[:tokens], correct.reshape(-1)[:tokens]
    return out, (states_grad, kernel_grad.astype(kernel.dtype))


def _backward(chunk, z_loss, residuals, cotangents):
    states_grad, kernel_grad = residuals
    scale = cotangents[0]
    return (
        (states_grad * scale).astype(states_grad.dtype),
        (kernel_grad * scale).astype(kernel_grad.dtype),
        None,
        None,
    )


_cross_entropy.defvjp(_forward, _backward)


def single_task_weights() -> dict[str, float]:
    """Weights of one target that holds rationale and label: the mean over its tokens."""
    return {"single_task": 1.0}


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
      kind: of `DIVERGENCES`.
      temperature: the student's logits are divided by it.
      beta: of `jensen_shannon`, in (0, 1).

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


def weighted_divergence(states, kernel, weights, chunk, divergence, known, kernels=()):
    """Weighted sum of token divergences, from the decoder's states, in chunks of tokens.

    `[tokens, vocab]` is not held whole: the logits of a chunk are computed again for its gradient.

    Args:
      states: [tokens, emb_dim], the student's.
      kernel: [emb_dim, vocab].
      weights: float32 [tokens].
      chunk: tokens per chunk, of each shard of the batch.
      divergence: (student logits [chunk, vocab], *chunks of `known`, *`kernels`) -> [chunk].
      known: what is known of the teacher, arrays [tokens, ...].
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

        chunks = _in_chunks(min(chunk, states.shape[0]), states, weights, *known)
        return jax.lax.scan(body, jnp.zeros((), jnp.float32), tuple(chunks))[0]

    split = len(known)
    return by_shard(total, (states, weights, *known), (kernel, *kernels), ("embed", "vocab"), jnp.sum)


def token_log_probs(states, kernel, targets, chunk):
    """Differentiable log-probabilities of the targets: float32 [tokens], computed in chunks.

    Args:
      states: [tokens, emb_dim].
      kernel: [emb_dim, vocab].
      targets: int32 [tokens].
      chunk: tokens per chunk, of each shard of the batch.
    """

    def log_probs(states, targets, kernel):
        @jax.checkpoint
        def body(_, xs):
            x, t = xs
            logits = x.astype(jnp.float32) @ kernel.astype(jnp.float32)
            return None, _pick(logits, t) - jax.nn.logsumexp(logits, axis=-1)

        chunks = _in_chunks(min(chunk, states.shape[0]), states, targets)
        return jax.lax.scan(body, None, tuple(chunks))[1].reshape(-1)[: states.shape[0]]

    return by_shard(log_probs, (states, targets), (kernel,), ("embed", "vocab"), jnp.ravel)
