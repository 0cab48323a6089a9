"""Sampling and beam search over a cached decoder; greedy search is `continuous`.

All shapes are static: jit with the length fixed. The encoder runs once; its keys and values are projected once
per layer. The loop ends when every row has ended; a row of nothing but padding, which only fills a batch, has
ended at the start. `model` is a `models.t5.Transformer`, `params` its parameters.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from distill_jax.data.vocabularies import EOS_ID

Array = jax.Array
CACHED = {"enable_dropout": False, "decode": True}  # of every call that decodes with a cache
NEVER = -1e9  # score of a hypothesis that does not exist


def lay_out(model, params: Any, inputs: Array, encoded: Any, places: int) -> Any:
    """The collections `cache`, for so many places, and `cross`, which has all that steps read of `encoded`."""
    tokens = jnp.zeros((inputs.shape[0], places), jnp.int32)
    _, collections = model.apply(
        {"params": params},
        *(encoded, inputs, tokens, None, None),
        **CACHED,
        mutable=["cache", "cross"],
        method="decoder_states",
    )
    return collections


def _start(model, params: Any, inputs: Array, max_decode_length: int) -> dict[str, Any]:
    """Runs the encoder and lays out the caches; variables for `_step`."""
    encoded = model.apply({"params": params}, inputs, enable_dropout=False, method="encode")
    return lay_out(model, params, inputs, encoded, max_decode_length)


def _step(model, params: Any, caches: dict[str, Any], inputs: Array, tokens: Array, max_decode_length: int):
    """Feeds int32 tokens [batch, 1]; float32 log-probabilities [batch, vocab] and the new caches."""
    variables = {"params": params, "cache": caches["cache"], "cross": caches["cross"]}
    unread = jnp.zeros((len(tokens), 1, model.config.encoded_dim), model.config.dtype)
    options = {"max_decode_length": max_decode_length, "mutable": ["cache"], "method": "decode"}
    logits, new = model.apply(variables, unread, inputs, tokens, tokens, **CACHED, **options)
    return jax.nn.log_softmax(logits[:, 0].astype(jnp.float32)), {**caches, "cache": new["cache"]}


def take_rows(collection: Any, rows: Array) -> Any:
    """These rows, int32 [rows], of a collection's keys and values; masks and indices, which have none, stay.

    Keys and values are [batch, heads, places, head_dim]; scanned layers have an axis of their own before these.
    """

    def take(x):
        return jnp.take(x, rows, axis=x.ndim - 4, mode="clip") if x.ndim >= 4 else x

    return jax.tree.map(take, collection)


def _repeat(caches: dict[str, Any], batch: int, times: int) -> dict[str, Any]:
    """Each of `batch` rows `times` times in a row."""
    rows = jnp.repeat(jnp.arange(batch), times)
    return take_rows(caches, rows)


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
    end_id: int | Array = EOS_ID,
) -> tuple[Array, Array]:
    """Draws each token from the model's distribution.

    A sample depends on `seed`, its row's stream and its number alone, not on the rest of the batch. The
    settings are arrays, a value a row: rows with different ones share a batch and a program.

    Args:
      inputs: int32 [batch, length]; `pad_id` of the model is padding.
      seed: uint32 [].
      streams: uint32 [batch]; rows with the same stream and input get the same samples.
      temperature: float32 [batch], divides the logits; 0 takes the most likely token.
      top_k: int32 [batch], see `truncate_logits`.
      top_p: float32 [batch], see `truncate_logits`.
      max_decode_length: tokens to decode at most, the end token included.
      num_samples: samples of each row.
      start_id: the decoder's first input token.
      end_id: the end token.

    Returns:
      tokens: int32 [batch, num_samples, max_decode_length], 0 after the end token.
      scores: float32 [batch, num_samples], log-probability under the model itself: at temperature 1,
        without truncation.
    """
    batch = inputs.shape[0]
    caches = _repeat(_start(model, params, inputs, max_decode_length), batch, num_samples)
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

    def going_on(carry):
        step, _, _, ended, _, _ = carry
        return (step < max_decode_length) & ~ended.all()

    def body(carry):
        step, last, tokens, ended, scores, caches = carry
        log_probs, caches = _step(model, params, caches, inputs, last[:, None], max_decode_length)
        drawn = draw(log_probs, step).astype(jnp.int32)
        log_prob = jnp.take_along_axis(log_probs, drawn[:, None], axis=-1)[:, 0]
        scores += jnp.where(ended, 0.0, log_prob)
        drawn = jnp.where(ended, 0, drawn)
        tokens = jax.lax.dynamic_update_slice(tokens, drawn[:, None], (0, step))
        return step + 1, drawn, tokens, ended | (drawn == end_id), scores, caches

    rows = len(inputs)
    last, tokens = jnp.full(rows, start_id, jnp.int32), jnp.zeros((rows, max_decode_length), jnp.int32)
    ended, scores = (inputs == model.config.pad_id).all(axis=1), jnp.zeros(rows, jnp.float32)
    first = jnp.zeros((), jnp.int32), last, tokens, ended, scores, caches
    _, _, tokens, _, scores, _ = jax.lax.while_loop(going_on, body, first)
    return tokens.reshape(batch, num_samples, -1), scores.reshape(batch, num_samples)


def length_divisor(length: Any, penalty: Any, beam_rule: str = "transformers") -> Any:
    """What a hypothesis' log-probability is divided by; `length` counts its tokens, the end token included.

    transformers and CTranslate2: `length ** penalty`. T5X: `((5 + length) / 6) ** penalty` (Wu et al. 2016,
    arXiv:1609.08144, eq. 14). Both are 1 at penalty 0.
    """
    return ((5.0 + length) / 6.0 if beam_rule == "t5x" else length) ** penalty


class _Hypotheses(NamedTuple):
    """Hypotheses of each row, in falling order of their scores.

    Attributes:
      tokens: int32 [batch, hypotheses, length], 0 after the last.
      scores: float32 [batch, hypotheses]; `NEVER` where there is none.
    """

    tokens: Array
    scores: Array

    def best(self, other: "_Hypotheses", count: int) -> "_Hypotheses":
        """The best of these and others; of equal ones those of `self`."""
        scores, order = jax.lax.top_k(jnp.concatenate([self.scores, other.scores], axis=1), count)
        return _Hypotheses(_take(jnp.concatenate([self.tokens, other.tokens], axis=1), order), scores)


def _take(x: Array, index: Array) -> Array:
    """Elements of axis 1 by int32 [batch, count]."""
    return jnp.take_along_axis(x, index.reshape(*index.shape, *[1] * (x.ndim - 2)), axis=1)


def _reorder(caches: dict[str, Any], parents: Array) -> dict[str, Any]:
    """Puts at each beam the cache of the beam that it descends from; parents int32 [batch, beams]."""
    batch, beams = parents.shape
    rows = (jnp.arange(batch)[:, None] * beams + parents).reshape(-1)
    return {**caches, "cache": take_rows(caches["cache"], rows)}


def beam_decode(
    model,
    params,
    inputs: Array,
    *,
    max_decode_length: int,
    num_beams: int,
    length_penalty: float | Array = 1.0,
    beam_rule: str = "transformers",
    start_id: int | Array = 0,
    end_id: int | Array = EOS_ID,
) -> tuple[Array, Array]:
    """Beam search as transformers' `generate` does it, or T5X's `decoding.beam_search`; best first.

    At each step the best `2 * num_beams` continuations of the live hypotheses are looked at. Those with the
    end token may be finished, and of the others the best `num_beams` live on. The finished ones are ranked by
    their score, and the best `num_beams` are kept.

    `transformers` (with `early_stopping=False`, its default; with one beam this is greedy search):
      - A score is the log-probability over `length ** length_penalty`.
      - Only ends among the best `num_beams` continuations of their step are finished.
      - Where the length limit cuts, the live hypotheses are finished too, and ranked by the same score.
      - A row stops when the best live log-probability, over the divisor of its present length, is no better
        than the worst of `num_beams` scores.

    `t5x`:
      - A score is the log-probability over `((5 + length) / 6) ** length_penalty`.
      - All ends are finished.
      - Where the length limit cuts, the live hypotheses come after all finished ones, however much likelier
        they are. (T5X gives them only if none has finished, and then their log-probability for a score.)
      - A row stops when the best live log-probability, over the divisor of the limit, is no better than the
        worst of `num_beams` scores.

    So both give the same where the penalty is 0, all ends are among the best `num_beams` continuations of
    their step, and a row stops before the limit.

    Args:
      inputs: int32 [batch, length]; `pad_id` of the model is padding.
      max_decode_length: tokens to decode at most, the end token included.
      num_beams: hypotheses kept.
      length_penalty: 0 or more: 0 ranks by log-probability; larger prefers longer hypotheses.
      beam_rule: `transformers` or `t5x`.
      start_id: the decoder's first input token.
      end_id: the end token.

    Returns:
      tokens: int32 [batch, num_beams, max_decode_length], 0 after the end token.
      scores: float32 [batch, num_beams].
    """
    batch, beams, length, as_t5x = inputs.shape[0], num_beams, max_decode_length, beam_rule == "t5x"
    beam_inputs = jnp.repeat(inputs, beams, axis=0)

    def divisor(tokens: Array | int) -> Array:
        return length_divisor(jnp.asarray(tokens, jnp.float32), length_penalty, beam_rule)

    def going_on(carry):
        step, _, improves, _, _, _ = carry
        return (step < length) & improves.any()

    def body(carry):
        step, last, improves, live, finished, caches = carry
        log_probs, caches = _step(model, params, caches, beam_inputs, last.reshape(-1, 1), length)
        vocab = log_probs.shape[-1]
        totals = live.scores[:, :, None] + log_probs.reshape(batch, beams, vocab)
        # At most one continuation of each beam ends, so `beams` others are always left.
        scores, flat = jax.lax.top_k(totals.reshape(batch, -1), 2 * beams)
        parents, tokens = flat // vocab, (flat % vocab).astype(jnp.int32)
        rows = jax.lax.dynamic_update_slice(_take(live.tokens, parents), tokens[:, :, None], (0, 0, step))
        ends, exist = tokens == end_id, scores > NEVER / 2
        counts = ends if as_t5x else (ends | (step + 1 == length)) & (jnp.arange(2 * beams) < beams)
        ended = jnp.where(counts & exist & improves, scores / divisor(step + 1), NEVER)
        finished = finished.best(_Hypotheses(rows, ended), beams)
        live_scores, places = jax.lax.top_k(jnp.where(ends | ~exist, NEVER, scores), beams)
        live = _Hypotheses(_take(rows, places), live_scores)
        # A live log-probability only falls.
        bound = live_scores[:, :1] / divisor(length if as_t5x else step + 1)
        improves &= bound > finished.scores[:, -1:]
        return (
            step + 1,
            _take(tokens, places),
            improves,
            live,
            finished,
            _reorder(caches, _take(parents, places)),
        )

    nothing = jnp.zeros((batch, beams, length), jnp.int32)
    empty = (inputs == model.config.pad_id).all(axis=1, keepdims=True)
    first = (
        jnp.zeros((), jnp.int32),
        jnp.full((batch, beams), start_id, jnp.int32),
        ~empty,
        _Hypotheses(nothing, jnp.tile(jnp.array([0.0] + [NEVER] * (beams - 1)), (batch, 1))),
        _Hypotheses(nothing, jnp.where(empty, 0.0, jnp.full((batch, beams), NEVER))),
        _repeat(_start(model, params, inputs, length), batch, beams),
    )
    _, _, _, live, finished, _ = jax.lax.while_loop(going_on, body, first)
    if not as_t5x:
        return tuple(finished)
    live = live._replace(scores=jnp.where(live.scores > NEVER / 2, live.scores / divisor(length), NEVER))
    count = (finished.scores > NEVER / 2).sum(axis=1, keepdims=True)
    places = jnp.arange(beams)
    places = jnp.where(places < count, places, places - count + beams)
    return tuple(_take(jnp.concatenate(both, axis=1), places) for both in zip(finished, live, strict=True))
