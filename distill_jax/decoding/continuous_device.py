"""Programs of continuous batching: a batch of slots whose rows begin and end at different steps.

A slot holds one row. When rows have ended, others take their slots, so that a long output does not hold up
the batch; the host decides who goes where (`evaluation.continuous`), the programs here do the work. All rows
share one clock: step n writes place n modulo `window` of every slot's cache, at whichever step its row began.
So a step writes one slice, and the bias by distance is one for all rows. A window is only as long as the
oldest row needs.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from distill_jax.decoding.quantization import restore
from distill_jax.decoding.search import lay_out
from distill_jax.models.t5 import output_kernel

Array = jax.Array


@flax.struct.dataclass
class Sources:
    """What the decoder reads of its inputs.

    Attributes:
      inputs: int32 [slots, length], 0 is padding.
      cross: their keys and values, [slots, heads, length, head_dim] each.
    """

    inputs: Array
    cross: Any


@flax.struct.dataclass
class Written:
    """What the decoder has written.

    Attributes:
      cache: keys and values, [slots, heads, window, head_dim] each, and the clock.
      tokens: int32 [slots, window].
    """

    cache: Any
    tokens: Array


@flax.struct.dataclass
class Rows:
    """The rows in the slots.

    Attributes:
      start: int32 [slots], the clock at the row's first token.
      last: int32 [slots], the token that the row goes on from.
      held: bool [slots], whether there is a row; what it wrote is kept until it is fetched.
      live: bool [slots], whether the row goes on.
      score: float32 [slots], log-probability of its tokens so far.
      node: int32 [slots], where it is in the tree of `Choices`, if there is one.
    """

    start: Array
    last: Array
    held: Array
    live: Array
    score: Array
    node: Array


@flax.struct.dataclass
class Choices:
    """Trees of the texts that rows may have as outputs, and the part of the logits' kernel that they need.

    Attributes:
      kernel: [embed, tokens], of the tokens in any tree; the others' logits are never computed.
      ids: int32 [tokens], their ids.
      tokens: int32 [nodes, branches], places in `ids` of the tokens that may follow; -1 is none.
      after: int32 [nodes, branches], the node that each leads to; below 0 where a single text is left.
    """

    kernel: Array
    ids: Array
    tokens: Array
    after: Array


def empty(model, params: Any, slots: int, length: int, window: int) -> tuple[Sources, Written]:
    """Slots without rows."""
    inputs = jnp.zeros((slots, length), jnp.int32)

    def shapes(params):
        encoded = jnp.zeros((slots, length, model.config.emb_dim), model.config.dtype)
        return lay_out(model, restore(params), inputs, encoded, window)

    collections = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(shapes, params))
    written = Written(collections["cache"], jnp.zeros((slots, window), jnp.int32))
    return Sources(inputs, collections["cross"]), written


def _row_axis(x: Array) -> int:
    """Of keys and values, which scanned layers give a first axis of their own."""
    return x.ndim - 4


def admit(model, params: Any, sources: Sources, inputs: Array, slots: Array) -> Sources:
    """Encodes rows, and puts them into slots.

    Args:
      model: a `models.t5.Transformer`.
      params: its parameters.
      sources: donate it: the slots are overwritten in place.
      inputs: int32 [rows, at most the length of `sources`].
      slots: int32 [rows].
    """
    encoded = model.apply({"params": params}, inputs, enable_dropout=False, method="encode")
    cross = lay_out(model, params, inputs, encoded, 1)["cross"]
    inputs = jnp.pad(inputs, ((0, 0), (0, sources.inputs.shape[1] - inputs.shape[1])))

    def put(row, sources):
        def put_one(old, new):
            axis = _row_axis(old)
            new = jax.lax.dynamic_slice_in_dim(new, row, 1, axis)
            return jax.lax.dynamic_update_slice(old, new, (0,) * axis + (slots[row],) + (0,) * 3)

        return Sources(
            jax.lax.dynamic_update_slice(sources.inputs, inputs[row][None], (slots[row], 0)),
            jax.tree.map(put_one, sources.cross, cross),
        )

    return jax.lax.fori_loop(0, inputs.shape[0], put, sources)


def likeliest(logits: Array) -> tuple[Array, Array]:
    """float32 [rows, vocab] -> the likeliest token int32 [rows], the first of equals, and its log-probability.

    XLA's argmax on CPU goes through the vocabulary one by one, and takes as long as the product before it.
    """
    best = logits.max(axis=-1, keepdims=True)
    ids = jnp.arange(logits.shape[-1], dtype=jnp.int32)
    first = jnp.where(logits == best, ids, logits.shape[-1] - 1).min(axis=-1)
    return first, -jnp.log(jnp.exp(logits - best).sum(axis=-1))


def narrowed(model, params: Any, ids: Array) -> Array:
    """The logits' kernel [embed, tokens] for some ids int32 [tokens]."""
    return jnp.take(output_kernel(params, model.config)[0], ids, axis=1, mode="clip")


def _likeliest_choice(choices: Choices, states: Array, node: Array) -> tuple[Array, Array, Array]:
    """Scaled states [rows, embed] -> token and its log-probability among those allowed, and the next node."""
    allowed = choices.tokens[node]
    logits = jnp.take_along_axis(states @ choices.kernel, jnp.maximum(allowed, 0), axis=1).astype(jnp.float32)
    log_probs = jax.nn.log_softmax(jnp.where(allowed >= 0, logits, -jnp.inf))
    best = jnp.argmax(log_probs, axis=1, keepdims=True)

    def picked(x):
        return jnp.take_along_axis(x, best, axis=1)[:, 0]

    return choices.ids[picked(allowed)], picked(log_probs), picked(choices.after[node])


def run(
    model,
    params: Any,
    sources: Sources,
    written: Written,
    rows: Rows,
    choices: Choices | None,
    max_length: Array,
    stop_at: Array,
    eos_id: int,
) -> tuple[Written, Rows]:
    """Decodes greedily until slots are free, or all rows have ended, or one needs a longer window.

    Args:
      model: a `models.t5.Transformer`.
      params: its parameters.
      sources: of the slots.
      written: of the slots; donate it.
      rows: in the slots.
      choices: the only outputs there may be: at each step the likeliest token is taken of those that go on with
        one of the row's texts, and a row ends where a single text is left.
      max_length: int32 [], tokens of a row at most, the end token included.
      stop_at: int32 [], slots without a live row to stop at.
      eos_id: id of the end token.
    """
    slots, window = written.tokens.shape
    kernel, scale = output_kernel(params, model.config)
    # The keys and values are there: of the encoder's output only the shape is looked at.
    encoded = jnp.zeros((slots, 1, model.config.emb_dim), model.config.dtype)

    def clock(written):
        return written.cache["decoder"]["cache_index"]

    def going_on(carry):
        written, rows = carry
        oldest = jnp.where(rows.held, clock(written) - rows.start, 0).max()
        return rows.live.any() & ((~rows.live).sum() < stop_at) & (oldest < window)

    def step(carry):
        written, rows = carry
        now = clock(written)
        states, new = model.apply(
            {"params": params, "cache": written.cache, "cross": sources.cross},
            encoded,
            sources.inputs,
            rows.last[:, None],
            None,
            None,
            enable_dropout=False,
            decode=True,
            max_decode_length=window,
            row_starts=rows.start,
            mutable=["cache"],
            method="decoder_states",
        )
        states, node = states[:, 0] * scale, rows.node
        if choices is None:
            token, log_prob = likeliest((states @ kernel).astype(jnp.float32))
            ends = (token == eos_id) | (now - rows.start + 1 >= max_length)
        else:
            token, log_prob, after = _likeliest_choice(choices, states, jnp.maximum(node, 0))
            node = jnp.where(rows.live, after, node)
            ends = after < 0
        token = jnp.where(rows.live, token, 0)
        tokens = jax.lax.dynamic_update_slice(written.tokens, token[:, None], (0, now % window))
        score = rows.score + jnp.where(rows.live, log_prob, 0.0)
        return (
            Written(new["cache"], tokens),
            rows.replace(last=token, live=rows.live & ~ends, score=score, node=node),
        )

    return jax.lax.while_loop(going_on, step, (written, rows))


def _rings(written: Written, change) -> Written:
    """Applies a function of (array, axis of its places) to the caches and the tokens."""
    cache = jax.tree.map(lambda x: change(x, x.ndim - 2) if x.ndim >= 4 else x, written.cache)
    return Written(cache, change(written.tokens, 1))


def widen(written: Written) -> Written:
    """Twice the window. The row's own steps, which are no older than the old window, are where they belong.

    The other half of the places repeats them: these are older than any row, and never read.
    """
    return _rings(written, lambda x, axis: jnp.concatenate([x, x], axis=axis))


def narrow(written: Written) -> Written:
    """Half the window: the latest of the two steps that a place stands for."""
    half = written.tokens.shape[1] // 2
    last = written.cache["decoder"]["cache_index"] - 1
    places = jnp.arange(half)
    age = (last - places) % half
    taken = (last - age) % (2 * half)
    return _rings(written, lambda x, axis: jnp.take(x, taken, axis=axis, mode="clip"))


def lengthen(sources: Sources, length: int) -> Sources:
    """Room for inputs of another length."""

    def pad(x, axis):
        pads = [(0, 0)] * x.ndim
        pads[axis] = (0, length - x.shape[axis])
        return jnp.pad(x, pads)

    return Sources(pad(sources.inputs, 1), jax.tree.map(lambda x: pad(x, x.ndim - 2), sources.cross))


def keep(sources: Sources, written: Written, slots: Array) -> tuple[Sources, Written]:
    """Only these slots, int32 [fewer]."""

    def pick(x):
        return jnp.take(x, slots, axis=_row_axis(x), mode="clip") if x.ndim >= 4 else x

    return (
        Sources(jnp.take(sources.inputs, slots, axis=0, mode="clip"), jax.tree.map(pick, sources.cross)),
        Written(jax.tree.map(pick, written.cache), jnp.take(written.tokens, slots, axis=0, mode="clip")),
    )
