"""The log-probability of given texts: teacher forcing, the encoder run once for all texts of an input.

`model` is a `models.t5.Transformer`, `params` its parameters.
"""

from typing import Any

import jax
import jax.numpy as jnp

from distill_jax.models.encoder_decoder import output_kernel
from distill_jax.models.logits import project, token_log_probs

Array = jax.Array
CHUNK = 1024  # tokens whose logits are in memory at a time


def encode(model, params: Any, inputs: Array) -> Any:
    """int32 [batch, inputs] -> what the network reads of them, for `score_tokens`."""
    return model.apply({"params": params}, inputs, enable_dropout=False, method="encode")


def _scaled_states(model, params: Any, encoded: Any, inputs: Array, targets: Array, segments: Array, start_id):
    """Decoder states [batch * targets, embed], such that `states @ kernel` are logits, and the kernel."""
    follows = segments == jnp.pad(segments, ((0, 0), (1, 0)))[:, :-1]
    shifted = jnp.where(follows, jnp.pad(targets, ((0, 0), (1, 0)))[:, :-1], start_id)
    ids = {"encoder_segment_ids": (inputs != model.config.pad_id).astype(jnp.int32)}
    ids |= {"decoder_segment_ids": segments, "decoder_cross_segment_ids": (segments > 0).astype(jnp.int32)}
    options = {"enable_dropout": False, "decode": False, "method": "decoder_states"}
    states = model.apply({"params": params}, encoded, inputs, shifted, **ids, **options)
    kernel, scale = output_kernel(params, model.config)
    return (states * scale).reshape(-1, states.shape[-1]), kernel


def score_tokens(
    model, params, encoded: Any, inputs: Array, targets: Array, segments: Array, start_id: int | Array = 0
) -> Array:
    """Log-probability of each target token after those before it.

    Several targets of one input lie in one row, told apart by segment: its keys and values are projected
    once, and the encoder is not run again.

    Args:
      encoded: of `encode`.
      inputs: int32 [batch, inputs]; `pad_id` of the model is padding.
      targets: int32 [batch, targets], end tokens included.
      segments: int32 [batch, targets], consecutive from 1; 0 is padding.
      start_id: the decoder's first input token.

    Returns:
      float32 [batch, targets]; of no meaning at padding.
    """
    states, kernel = _scaled_states(model, params, encoded, inputs, targets, segments, start_id)
    cap = model.config.logits_cap
    return token_log_probs(states, kernel, targets.reshape(-1), CHUNK, cap).reshape(targets.shape)


def likeliest_tokens(
    model, params, encoded: Array, inputs: Array, targets: Array, segments: Array, start_id=0, *, count: int
) -> tuple[Array, Array]:
    """The `count` likeliest tokens at each place of the targets, whatever stands there; see `score_tokens`.

    Returns:
      tokens: int32 [batch, targets, count].
      log_probs: float32 [batch, targets, count], in falling order.
    """
    states, kernel = _scaled_states(model, params, encoded, inputs, targets, segments, start_id)

    cap = model.config.logits_cap

    def likeliest(state):
        log_probs, tokens = jax.lax.top_k(jax.nn.log_softmax(project(state, kernel, cap)), count)
        return tokens.astype(jnp.int32), log_probs

    tokens, log_probs = jax.lax.map(likeliest, states, batch_size=CHUNK)
    shape = (*targets.shape, count)
    return tokens.reshape(shape), log_probs.reshape(shape)
