"""Greedy search, sampling and beam search over a cached decoder.

All shapes are static: jit with the length fixed. The encoder runs once; its keys and values are
projected once per layer; the loop ends when every row has ended, and a row of nothing but padding, which only
fills a batch, has ended at the start. `beam_decode` is the search of T5X and Tensor2Tensor: it keeps
`num_beams` live and `num_beams` finished hypotheses, scored by log-probability over
`((5 + length) / 6) ** penalty` (Wu et al. 2016, eq. 14).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array
NEVER = -1e9  # score of a hypothesis that does not exist


def lay_out(model, params: Any, inputs: Array, encoded: Array, places: int) -> Any:
    """The collections `cache`, for so many places, and `cross`."""
    tokens = jnp.zeros((inputs.shape[0], places), jnp.int32)
    _, collections = model.apply(
        {"params": params},
        encoded,
        inputs,
        tokens,
        None,
        None,
        enable_dropout=False,
        decode=True,
        mutable=["cache", "cross"],
        method="decoder_states",
    )
    return collections


def _start(model, params: Any, inputs: Array, max_decode_length: int) -> dict[str, Any]:
    """Runs the encoder and lays out the caches; variables for `_step`."""
    encoded = model.apply({"params": params}, inputs, enable_dropout=False, method="encode")
    return {"encoded": encoded, **lay_out(model, params, inputs, encoded, max_decode_length)}


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


def _batch_axis(x: Array) -> int | None:
    """Caches of scanned layers are [layers, batch, ...]; the masks and indices have no batch."""
    return {4: 0, 5: 1}.get(x.ndim)


def _repeat(caches: dict[str, Any], times: int) -> dict[str, Any]:
    """Every row `times` times in a row."""

    def repeat(x):
        axis = _batch_axis(x)
        return x if axis is None else jnp.repeat(x, times, axis=axis)

    encoded = jnp.repeat(caches["encoded"], times, axis=0)
    return {"encoded": encoded, **{name: jax.tree.map(repeat, caches[name]) for name in ("cross", "cache")}}


def _token_by_token(
    model,
    params: Any,
    inputs: Array,
    caches: dict[str, Any],
    choose: Callable[[Array, Array], Array],
    max_decode_length: int,
    start_id: int | Array,
    eos_id: int,
) -> tuple[Array, Array]:
    """Decodes with `choose`: (log-probabilities [batch, vocab], step) -> int32 [batch]; tokens and scores."""
    batch = inputs.shape[0]

    def going_on(carry):
        step, _, _, ended, _, _ = carry
        return (step < max_decode_length) & ~ended.all()

    def body(carry):
        step, last, tokens, ended, scores, caches = carry
        log_probs, caches = _step(model, params, caches, inputs, last[:, None], max_decode_length)
        chosen = choose(log_probs, step).astype(jnp.int32)
        picked = jnp.take_along_axis(log_probs, chosen[:, None], axis=-1)[:, 0]
        scores += jnp.where(ended, 0.0, picked)
        chosen = jnp.where(ended, 0, chosen)
        tokens = jax.lax.dynamic_update_slice(tokens, chosen[:, None], (0, step))
        return step + 1, chosen, tokens, ended | (chosen == eos_id), scores, caches

    first = (
        jnp.zeros((), jnp.int32),
        jnp.full(batch, start_id, jnp.int32),
        jnp.zeros((batch, max_decode_length), jnp.int32),
        (inputs == 0).all(axis=1),
        jnp.zeros(batch, jnp.float32),
        caches,
    )
    _, _, tokens, _, scores, _ = jax.lax.while_loop(going_on, body, first)
    return tokens, scores


def greedy_decode(
    model,
    params: Any,
    inputs: Array,
    *,
    max_decode_length: int,
    start_id: int | Array = 0,
    eos_id: int = 1,
) -> tuple[Array, Array]:
    """Takes the most likely token at each step.

    Args:
      model: a `models.t5.Transformer`.
      params: its parameters.
      inputs: int32 [batch, length], 0 is padding.
      max_decode_length: tokens to decode at most, the end token included.
      start_id: the decoder's first input token.
      eos_id: id of the end token.

    Returns:
      tokens: int32 [batch, max_decode_length], the end token included, 0 after it.
      scores: float32 [batch], sum of the log-probabilities of these tokens.
    """
    caches = _start(model, params, inputs, max_decode_length)

    def most_likely(log_probs, step):
        del step
        return jnp.argmax(log_probs, axis=-1)

    return _token_by_token(model, params, inputs, caches, most_likely, max_decode_length, start_id, eos_id)


def truncate_logits(logits: Array, top_k: Array, top_p: Array) -> Array:
    """Leaves the likeliest tokens of each row, and makes the others impossible.

    First the `top_k` likeliest stay (Fan et al. 2018), then of these the fewest that together have a
    share of `top_p` or more (nucleus sampling, Holtzman et al. 2020), the likeliest always; ties stay too.

    Args:
      logits: float32 [batch, vocab].
      top_k: int32 [batch]; 0 for no bound.
      top_p: float32 [batch] in (0, 1]; 1 for no bound.

    Returns:
      float32 [batch, vocab], -inf where a token was removed.
    """
    vocab = logits.shape[-1]
    ordered = jnp.sort(logits, axis=-1, descending=True)
    rank = jnp.arange(vocab)
    ordered = jnp.where(rank < jnp.where(top_k > 0, top_k, vocab)[:, None], ordered, -jnp.inf)
    probs = jax.nn.softmax(ordered, axis=-1)
    before = jnp.cumsum(probs, axis=-1) - probs
    kept = (rank == 0) | (jnp.isfinite(ordered) & ((before < top_p[:, None]) | (top_p >= 1.0)[:, None]))
    lowest = jnp.min(jnp.where(kept, ordered, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits >= lowest, logits, -jnp.inf)


def sample_decode(
    model,
    params: Any,
    inputs: Array,
    seed: Array,
    streams: Array,
    temperature: Array,
    top_k: Array,
    top_p: Array,
    *,
    max_decode_length: int,
    num_samples: int = 1,
    start_id: int | Array = 0,
    eos_id: int = 1,
) -> tuple[Array, Array]:
    """Draws each token from the model's distribution.

    A sample depends on `seed`, its row's stream and its number alone, not on the rest of the batch. The
    settings are arrays, a value a row: rows with different ones share a batch and a program.

    Args:
      model: a `models.t5.Transformer`.
      params: its parameters.
      inputs: int32 [batch, length], 0 is padding.
      seed: uint32 [].
      streams: uint32 [batch]; rows with the same stream and input get the same samples.
      temperature: float32 [batch], divides the logits; 0 takes the most likely token.
      top_k: int32 [batch], see `truncate_logits`.
      top_p: float32 [batch], see `truncate_logits`.
      max_decode_length: tokens to decode at most, the end token included.
      num_samples: samples of each row.
      start_id: the decoder's first input token.
      eos_id: id of the end token.

    Returns:
      tokens: int32 [batch, num_samples, max_decode_length], 0 after the end token.
      scores: float32 [batch, num_samples], log-probability under the model itself: at temperature 1,
        without truncation.
    """
    batch = inputs.shape[0]
    caches = _repeat(_start(model, params, inputs, max_decode_length), num_samples)
    inputs, streams, temperature, top_k, top_p = (
        jnp.repeat(x, num_samples, axis=0) for x in (inputs, streams, temperature, top_k, top_p)
    )
    fold_in = jax.vmap(jax.random.fold_in)
    keys = jax.vmap(lambda stream: jax.random.fold_in(jax.random.key(seed), stream))(streams)
    keys = fold_in(keys, jnp.tile(jnp.arange(num_samples), batch))
    truncated = jnp.any((top_k > 0) | (top_p < 1.0))

    def draw(log_probs, step):
        logits = log_probs / jnp.maximum(temperature, 1e-6)[:, None]
        logits = jax.lax.cond(truncated, truncate_logits, lambda x, k, p: x, logits, top_k, top_p)
        drawn = jax.vmap(jax.random.categorical)(fold_in(keys, jnp.full(len(keys), step)), logits)
        return jnp.where(temperature == 0.0, jnp.argmax(log_probs, axis=-1), drawn)

    tokens, scores = _token_by_token(model, params, inputs, caches, draw, max_decode_length, start_id, eos_id)
    return tokens.reshape(batch, num_samples, -1), scores.reshape(batch, num_samples)


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
    start_id: int | Array = 0,
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
      start_id: the decoder's first input token.
      eos_id: id of the end token.

    Returns:
      tokens: int32 [batch, num_beams, max_decode_length], 0 after the end token.
      scores: float32 [batch, num_beams], log-probability over the length penalty. A hypothesis that
        reaches `max_decode_length` without an end is ranked too, where too few have ended.
    """
    batch, beams, length = inputs.shape[0], num_beams, max_decode_length

    def reorder(caches, parents):
        """Puts at each beam the cache of the beam it descends from; parents int32 [batch, beams]."""
        rows = (jnp.arange(batch)[:, None] * beams + parents).reshape(-1)

        def pick(x):
            axis = _batch_axis(x)
            return x if axis is None else jnp.take(x, rows, axis=axis)

        return {**caches, "cache": jax.tree.map(pick, caches["cache"])}

    def take(x, index):
        return jnp.take_along_axis(x, index.reshape(*index.shape, *[1] * (x.ndim - 2)), axis=1)

    start = _repeat(_start(model, params, inputs, length), beams)
    beam_inputs = jnp.repeat(inputs, beams, axis=0)
    empty = (inputs == 0).all(axis=1, keepdims=True)

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
        jnp.full((batch, beams), start_id, jnp.int32),
        jnp.zeros((batch, beams, length), jnp.int32),
        jnp.tile(jnp.array([0.0] + [NEVER] * (beams - 1)), (batch, 1)),
        jnp.zeros((batch, beams, length), jnp.int32),
        jnp.where(empty, 0.0, jnp.full((batch, beams), NEVER)),
        start,
    )
    step, _, live, live_scores, done, done_scores, _ = jax.lax.while_loop(going_on, body, first)
    unfinished = live_scores / _length_penalty(jnp.float32(length), length_penalty)
    unfinished = jnp.where((step == length) & (done_scores <= NEVER), unfinished, NEVER)
    scores, best = jax.lax.top_k(jnp.concatenate([done_scores, unfinished], axis=1), beams)
    return take(jnp.concatenate([done, live], axis=1), best), scores
