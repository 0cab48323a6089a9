"""Greedy and beam search over a cached decoder. All shapes are static: jit with the length fixed.

The encoder runs once; its keys and values are projected once per layer; the loop ends when every row
has ended. `beam_decode` is the search of T5X and Tensor2Tensor: it keeps `num_beams` live and
`num_beams` finished hypotheses, scored by log-probability over `((5 + length) / 6) ** penalty` (Wu et
al. 2016, eq. 14).
"""

from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array
NEVER = -1e9  # score of a hypothesis that does not exist


def _start(model, params: Any, inputs: Array, max_decode_length: int) -> dict[str, Any]:
    """Runs the encoder and lays out the caches; variables for `_step`."""
    encoded = model.apply({"params": params}, inputs, enable_dropout=False, method="encode")
    tokens = jnp.zeros((inputs.shape[0], max_decode_length), jnp.int32)
    _, caches = model.apply(
        {"params": params},
        encoded,
        inputs,
        tokens,
        tokens,
        enable_dropout=False,
        decode=True,
        mutable=["cache", "cross"],
        method="decode",
    )
    return {"encoded": encoded, **caches}


def _step(model, params: Any, caches: dict[str, Any], inputs: Array, tokens: Array, max_decode_length: int):
    """Feeds int32 tokens [batch, 1]; float32 log-probabilities [batch, vocab] and the new caches."""
    logits, new = model.apply(
        {"params": params, "cache": caches["cache"], "cross": caches["cross"]},
        caches["encoded"],
        inputs,
        tokens,
        tokens,
        enable_dropout=False,
        decode=True,
        max_decode_length=max_decode_length,
        mutable=["cache"],
        method="decode",
    )
    return jax.nn.log_softmax(logits[:, 0].astype(jnp.float32)), {**caches, "cache": new["cache"]}


def greedy_decode(
    model, params: Any, inputs: Array, *, max_decode_length: int, eos_id: int = 1
) -> tuple[Array, Array]:
    """Takes the most likely token at each step.

    Args:
      model: a `models.t5.Transformer`.
      params: its parameters.
      inputs: int32 [batch, length], 0 is padding.
      max_decode_length: tokens to decode at most, the end token included.
      eos_id: id of the end token.

    Returns:
      tokens: int32 [batch, max_decode_length], the end token included, 0 after it.
      scores: float32 [batch], sum of the log-probabilities of these tokens.
    """
    batch = inputs.shape[0]

    def going_on(carry):
        step, _, _, ended, _, _ = carry
        return (step < max_decode_length) & ~ended.all()

    def body(carry):
        step, last, tokens, ended, scores, caches = carry
        log_probs, caches = _step(model, params, caches, inputs, last[:, None], max_decode_length)
        best = jnp.argmax(log_probs, axis=-1).astype(jnp.int32)
        scores += jnp.where(ended, 0.0, log_probs.max(axis=-1))
        best = jnp.where(ended, 0, best)
        tokens = jax.lax.dynamic_update_slice(tokens, best[:, None], (0, step))
        return step + 1, best, tokens, ended | (best == eos_id), scores, caches

    first = (
        jnp.zeros((), jnp.int32),
        jnp.zeros(batch, jnp.int32),
        jnp.zeros((batch, max_decode_length), jnp.int32),
        jnp.zeros(batch, bool),
        jnp.zeros(batch, jnp.float32),
        _start(model, params, inputs, max_decode_length),
    )
    _, _, tokens, _, scores, _ = jax.lax.while_loop(going_on, body, first)
    return tokens, scores


def _length_penalty(length: Array, penalty: float) -> Array:
    return ((5.0 + length) / 6.0) ** penalty


def beam_decode(
    model,
    params: Any,
    inputs: Array,
    *,
    max_decode_length: int,
    num_beams: int,
    length_penalty: float = 0.6,
    eos_id: int = 1,
) -> tuple[Array, Array]:
    """Beam search; the hypotheses come best first.

    Args:
      model: a `models.t5.Transformer`.
      params: its parameters.
      inputs: int32 [batch, length], 0 is padding.
      max_decode_length: tokens to decode at most, the end token included.
      num_beams: hypotheses kept.
      length_penalty: 0 ranks by log-probability; larger prefers longer hypotheses.
      eos_id: id of the end token.

    Returns:
      tokens: int32 [batch, num_beams, max_decode_length], 0 after the end token.
      scores: float32 [batch, num_beams], log-probability over the length penalty. A hypothesis that
        reaches `max_decode_length` without an end is ranked too, where too few have ended.
    """
    batch, beams, length = inputs.shape[0], num_beams, max_decode_length

    def over_beams(x, axis=0):
        return jnp.repeat(x, beams, axis=axis)

    def batch_axis(x):
        # Caches of scanned layers are [layers, batch, ...]; the masks and indices have no batch.
        return {4: 0, 5: 1}.get(x.ndim)

    def reorder(caches, parents):
        """Puts at each beam the cache of the beam it descends from; parents int32 [batch, beams]."""
        rows = (jnp.arange(batch)[:, None] * beams + parents).reshape(-1)

        def pick(x):
            axis = batch_axis(x)
            return x if axis is None else jnp.take(x, rows, axis=axis)

        return {**caches, "cache": jax.tree.map(pick, caches["cache"])}

    def take(x, index):
        return jnp.take_along_axis(x, index.reshape(*index.shape, *[1] * (x.ndim - 2)), axis=1)

    start = _start(model, params, inputs, length)
    start = {
        "encoded": over_beams(start["encoded"]),
        "cross": jax.tree.map(lambda x: over_beams(x, batch_axis(x)), start["cross"]),
        "cache": jax.tree.map(
            lambda x: x if batch_axis(x) is None else over_beams(x, batch_axis(x)), start["cache"]
        ),
    }
    beam_inputs = over_beams(inputs)

    def going_on(carry):
        step, _, _, live_scores, _, done_scores, _ = carry
        # No live beam can still beat the worst finished one: its score only falls, its penalty is at
        # most that of the full length.
        best_possible = live_scores.max(axis=1) / _length_penalty(jnp.float32(length), length_penalty)
        return (step < length) & (best_possible > done_scores.min(axis=1)).any()

    def body(carry):
        step, last, live, live_scores, done, done_scores, caches = carry
        log_probs, caches = _step(model, params, caches, beam_inputs, last.reshape(-1, 1), length)
        vocab = log_probs.shape[-1]
        totals = live_scores[:, :, None] + log_probs.reshape(batch, beams, vocab)
        # At most `beams` of the best 2 * beams end here, so `beams` live ones are always left.
        top, flat = jax.lax.top_k(totals.reshape(batch, -1), 2 * beams)
        parents, tokens = flat // vocab, (flat % vocab).astype(jnp.int32)
        rows = jax.lax.dynamic_update_slice(take(live, parents), tokens[:, :, None], (0, 0, step))
        ends = tokens == eos_id

        live_top, keep = jax.lax.top_k(jnp.where(ends, NEVER, top), beams)
        finished = jnp.where(ends, top / _length_penalty(step + 1.0, length_penalty), NEVER)
        all_scores = jnp.concatenate([done_scores, finished], axis=1)
        all_rows = jnp.concatenate([done, rows], axis=1)
        done_scores, best = jax.lax.top_k(all_scores, beams)
        caches = reorder(caches, take(parents, keep))
        return (
            step + 1,
            take(tokens, keep),
            take(rows, keep),
            live_top,
            take(all_rows, best),
            done_scores,
            caches,
        )

    first = (
        jnp.zeros((), jnp.int32),
        jnp.zeros((batch, beams), jnp.int32),
        jnp.zeros((batch, beams, length), jnp.int32),
        jnp.tile(jnp.array([0.0] + [NEVER] * (beams - 1)), (batch, 1)),
        jnp.zeros((batch, beams, length), jnp.int32),
        jnp.full((batch, beams), NEVER),
        start,
    )
    step, _, live, live_scores, done, done_scores, _ = jax.lax.while_loop(going_on, body, first)
    unfinished = live_scores / _length_penalty(jnp.float32(length), length_penalty)
    unfinished = jnp.where((step == length) & (done_scores <= NEVER), unfinished, NEVER)
    scores, best = jax.lax.top_k(jnp.concatenate([done_scores, unfinished], axis=1), beams)
    return take(jnp.concatenate([done, live], axis=1), best), scores
