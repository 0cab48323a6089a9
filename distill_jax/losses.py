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
    log_z = jax.nn.logsumexp(logits, axis=-1)
    picked = jnp.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
    cross_entropy = log_z - picked
    correct = (jnp.argmax(logits, axis=-1) == targets).astype(jnp.float32)
    return logits, log_z, cross_entropy + z_loss * log_z**2, cross_entropy, correct


def _in_chunks(chunk, *arrays):
    """Pads token-major arrays to whole chunks: [tokens, ...] -> [chunks, chunk, ...]."""
    tokens = arrays[0].shape[0]
    pad = -tokens % chunk
    return [jnp.pad(a, [(0, pad)] + [(0, 0)] * (a.ndim - 1)).reshape(-1, chunk, *a.shape[1:]) for a in arrays]


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def weighted_cross_entropy(states, kernel, targets, weights, chunk=2048, z_loss=0.0):
    """Weighted sum of token cross entropies, from decoder states, in chunks of tokens.

    `[tokens, vocab]` is never held whole, forward or backward: since the weights are known, the
    gradients are taken in the same pass over the chunks as the loss, with no second forward.

    Args:
      states: [tokens, emb_dim], the decoder's output after its final norm.
      kernel: [emb_dim, vocab], the output projection.
      targets: int32 [tokens].
      weights: float32 [tokens]; not differentiated.
      chunk: tokens per chunk.
      z_loss: factor of `log(Z)**2` added to each token's loss, as in T5X (Mesh TensorFlow).

    Returns:
      `(loss, cross_entropy, correct)`: float32 scalar, and float32 [tokens] twice, for metrics only:
      no gradient flows through them.
    """
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
        kernel_grad += x.astype(jnp.float32).T @ logits_grad
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


weighted_cross_entropy.defvjp(_forward, _backward)
