"""The weight of each token in a method's loss, and the cross entropy of tokens in chunks.

A method's loss is a weighted sum of token cross entropies, `sum(weights * cross_entropy)`. A method differs
from another only in its weights, which need the token counts of the global batch alone. So the loss is the
same however the batch is packed, split into microbatches or sharded over devices.
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


def single_task_weights() -> dict[str, float]:
    """Weights of one target that holds rationale and label: the mean over its tokens."""
    return {"single_task": 1.0}


def token_weights(
    decoder_task_ids: jax.Array, decoder_loss_weights: jax.Array, view_weights: Mapping[str, float]
) -> jax.Array:
    """Distributes each view's weight evenly over that view's tokens in the batch: float32 [batch, length].

    Token `i` of view `v` gets `view_weights[v] * w_i / sum_{j in v} w_j`, so that the weighted sum of
    cross entropies is `sum_v view_weights[v] * mean_v(cross entropy)`: each view is a mean over its own
    tokens. A view without tokens in the batch adds nothing.

    Args:
      decoder_task_ids: int32 [batch, length], 0 is padding, else a value of `views.TASK_IDS`.
      decoder_loss_weights: float32 [batch, length], 0 where a token does not count.
      view_weights: of the views by name; a view that is not named has weight 0.
    """
    weights = jnp.zeros(decoder_loss_weights.shape, jnp.float32)
    for view, weight in view_weights.items():
        own = jnp.where(decoder_task_ids == TASK_IDS[view], decoder_loss_weights, 0.0)
        weights += weight * own / jnp.maximum(own.sum(), 1e-9)
    return weights


def softcap(logits: jax.Array, cap: float) -> jax.Array:
    """`cap * tanh(logits / cap)`, Gemma 2's (arXiv:2408.00118, section 2); the logits themselves for 0."""
    return cap * jnp.tanh(logits / cap) if cap else logits


def project(states: jax.Array, kernel: jax.Array, cap: float = 0.0) -> jax.Array:
    """float32 logits [..., vocab] of states [..., embed], see `softcap`."""
    return softcap(states.astype(jnp.float32) @ kernel.astype(jnp.float32), cap)


def _chunk_terms(states, kernel, targets, z_loss, cap):
    """Logits of one chunk and, per token, cross entropy (with the z-loss) and correctness."""
    logits = project(states, kernel, cap)  # [chunk, vocab]
    largest = jnp.max(logits, axis=-1)
    log_z = largest + jnp.log(jnp.sum(jnp.exp(logits - largest[:, None]), axis=-1))
    chosen = _pick(logits, targets)
    cross_entropy = log_z - chosen
    correct = (chosen == largest).astype(jnp.float32)
    return logits, log_z, cross_entropy + z_loss * log_z**2, cross_entropy, correct


def _pick(logits, targets):
    """The targets' logits: [chunk, vocab], int32 [chunk] -> [chunk]."""
    return jnp.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]


def in_chunks(chunk, *arrays):
    """Pads token-major arrays to full chunks: [tokens, ...] -> [chunks, at most `chunk`, ...]."""
    chunk = min(chunk, arrays[0].shape[0])
    pad = -arrays[0].shape[0] % chunk
    return [jnp.pad(a, [(0, pad)] + [(0, 0)] * (a.ndim - 1)).reshape(-1, chunk, *a.shape[1:]) for a in arrays]


def weighted_cross_entropy(states, kernel, targets, weights, chunk=2048, z_loss=0.0, cap=0.0):
    """Weighted sum of token cross entropies, from decoder states, in chunks of tokens.

    The logits [tokens, vocab] are never in memory as a whole. The weights are known in the forward pass, so
    that the gradients are computed in it too, chunk by chunk, without a second forward pass.

    Args:
      states: [tokens, emb_dim], the decoder's output after its final norm.
      kernel: [emb_dim, vocab], the output projection.
      targets: int32 [tokens].
      weights: float32 [tokens]; not differentiated.
      chunk: tokens per chunk, of each shard of the batch.
      z_loss: factor of `log(Z)**2` added to each token's loss, as in T5X (Mesh TensorFlow).
      cap: of the logits, see `project`.

    Returns:
      `(loss, cross_entropy, correct)`: float32 scalar, and float32 [tokens] twice, for metrics only:
      no gradient flows through them.
    """

    def combine(parts):
        return parts[0].sum(), parts[1].reshape(-1), parts[2].reshape(-1)

    function = partial(_cross_entropy, chunk=chunk, z_loss=z_loss, cap=cap)
    return by_shard(function, (states, targets, weights), (kernel,), ("embed", "vocab"), combine)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def _cross_entropy(states, targets, weights, kernel, chunk, z_loss, cap):
    def body(_, xs):
        x, t, w = xs
        _, _, loss, cross_entropy, correct = _chunk_terms(x, kernel, t, z_loss, cap)
        return None, (jnp.sum(w * loss), cross_entropy, correct)

    chunks = tuple(in_chunks(chunk, states, targets, weights))
    _, (loss, cross_entropy, correct) = jax.lax.scan(body, None, chunks)
    tokens = states.shape[0]
    return loss.sum(), cross_entropy.reshape(-1)[:tokens], correct.reshape(-1)[:tokens]


def _forward(states, targets, weights, kernel, chunk, z_loss, cap):
    def body(kernel_grad, xs):
        x, t, w = xs
        logits, log_z, loss, cross_entropy, correct = _chunk_terms(x, kernel, t, z_loss, cap)
        probabilities = jnp.exp(logits - log_z[:, None])
        logits_grad = probabilities * (w * (1.0 + 2.0 * z_loss * log_z))[:, None]
        # A comparison, not a scatter: XLA runs scatters on CPU one update at a time.
        is_target = jnp.arange(kernel.shape[1])[None, :] == t[:, None]
        logits_grad -= jnp.where(is_target, w[:, None], 0.0)
        if cap:
            logits_grad *= 1.0 - (logits / cap) ** 2
        states_grad = logits_grad @ kernel.astype(jnp.float32).T
        kernel_grad += transposed(x.astype(jnp.float32)) @ logits_grad
        return kernel_grad, (jnp.sum(w * loss), cross_entropy, correct, states_grad)

    zeros, chunks = jnp.zeros(kernel.shape, jnp.float32), tuple(in_chunks(chunk, states, targets, weights))
    kernel_grad, (loss, cross_entropy, correct, states_grad) = jax.lax.scan(body, zeros, chunks)
    tokens = states.shape[0]
    states_grad = states_grad.reshape(-1, states.shape[1])[:tokens].astype(states.dtype)
    out = loss.sum(), cross_entropy.reshape(-1)[:tokens], correct.reshape(-1)[:tokens]
    return out, (states_grad, kernel_grad.astype(kernel.dtype))


def _backward(chunk, z_loss, cap, residuals, cotangents):
    scale = cotangents[0]
    states_grad, kernel_grad = ((grad * scale).astype(grad.dtype) for grad in residuals)
    return states_grad, None, None, kernel_grad


_cross_entropy.defvjp(_forward, _backward)


def token_log_probs(states, kernel, targets, chunk, cap=0.0):
    """Differentiable log-probabilities of the targets: float32 [tokens]; takes what the cross entropy takes."""

    def log_probs(states, targets, kernel):
        @jax.checkpoint
        def body(_, xs):
            x, t = xs
            logits = project(x, kernel, cap)
            return None, _pick(logits, t) - jax.nn.logsumexp(logits, axis=-1)

        chunks = in_chunks(chunk, states, targets)
        return jax.lax.scan(body, None, tuple(chunks))[1].reshape(-1)[: states.shape[0]]

    return by_shard(log_probs, (states, targets), (kernel,), ("embed", "vocab"), jnp.ravel)
