"""The vocabulary's logits of decoder states, their cross entropy and log-probabilities, in chunks of tokens.

All logits of a batch would take more memory than the network: they are made for `chunk` tokens at a time, and
made again in the backward pass.
"""

from functools import partial

import jax
import jax.numpy as jnp

from distill_jax.models.product import transposed
from distill_jax.models.sharding import by_shard


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
