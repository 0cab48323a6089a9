"""Continuous batching, the device half: the programs that `continuous` calls.

A slot holds one row. All slots share one clock: step n writes position n modulo `window` of every slot's cache,
whenever the slot's row began. So a step writes one slice, and the bias by distance is the same for all slots.
The window is only as long as the oldest row needs. `model` is a `models.t5.Transformer`, `params` its
parameters.
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from distill_jax.decoding.quantization import dequantize
from distill_jax.decoding.search import CACHED, lay_out, take_rows
from distill_jax.models.encoder_decoder import output_kernel
from distill_jax.models.logits import softcap

Array = jax.Array


@flax.struct.dataclass
class Encoded:
    """What the decoder reads of its inputs.

    Attributes:
      inputs: int32 [slots, length]; `pad_id` of the model is padding.
      cross: their keys and values, [slots, heads, length, head_dim] each.
    """

    inputs: Array
    cross: Any


@flax.struct.dataclass
class Decoded:
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
      last: int32 [slots], the row's last token, which the decoder reads next.
      occupied: bool [slots], whether there is a row; its tokens are kept until the host has fetched them.
      live: bool [slots], whether the row has not ended.
      score: float32 [slots], log-probability of its tokens so far.
      node: int32 [slots], its node in the tries of `Choices`, if there are any.
    """

    start: Array
    last: Array
    occupied: Array
    live: Array
    score: Array
    node: Array


@flax.struct.dataclass
class Choices:
    """Tries of the only outputs that rows may have, and the columns of the logits' kernel that they need.

    Attributes:
      kernel: [embed, tokens], of the tokens in any trie; the logits of others are never computed.
      ids: int32 [tokens], their ids.
      tokens: int32 [nodes, branches], indices into `ids` of the tokens that may follow; -1 is none.
      children: int32 [nodes, branches], the node that each leads to; below 0 where a single text is left.
    """

    kernel: Array
    ids: Array
    tokens: Array
    children: Array


def empty_slots(model, params: Any, slots: int, length: int, window: int) -> tuple[Encoded, Decoded]:
    """Slots without rows."""
    inputs = jnp.full((slots, length), model.config.pad_id, jnp.int32)

    def shapes(params):
        params = dequantize(params)
        encoded = model.apply({"params": params}, inputs, enable_dropout=False, method="encode")
        return lay_out(model, params, inputs, encoded, window)

    collections = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(shapes, params))
    decoded = Decoded(collections["cache"], jnp.zeros((slots, window), jnp.int32))
    return Encoded(inputs, collections["cross"]), decoded


def admit(model, params: Any, encoded: Encoded, inputs: Array, slots: Array) -> Encoded:
    """Encodes rows into slots.

    Args:
      encoded: donate it: the slots are overwritten in place.
      inputs: int32 [rows, length], no longer than those of `encoded`.
      slots: int32 [rows].
    """
    states = model.apply({"params": params}, inputs, enable_dropout=False, method="encode")
    cross = lay_out(model, params, inputs, states, 1)["cross"]
    inputs = _lengthen(inputs, encoded.inputs.shape[1], 1, model.config.pad_id)

    def put(row, encoded):
        def put_one(old, new):
            axis = old.ndim - 4  # as in `take_rows`
            new = jax.lax.dynamic_slice_in_dim(new, row, 1, axis)
            return jax.lax.dynamic_update_slice(old, new, (0,) * axis + (slots[row],) + (0,) * 3)

        return Encoded(
            jax.lax.dynamic_update_slice(encoded.inputs, inputs[row][None], (slots[row], 0)),
            jax.tree.map(put_one, encoded.cross, cross),
        )

    return jax.lax.fori_loop(0, inputs.shape[0], put, encoded)


def likeliest(logits: Array) -> tuple[Array, Array]:
    """float32 [rows, vocab] -> the likeliest token int32 [rows], the first of equals, and its log-probability.

    XLA's argmax on CPU goes through the vocabulary one by one, and takes as long as the product before it.
    """
    best = logits.max(axis=-1, keepdims=True)
    ids = jnp.arange(logits.shape[-1], dtype=jnp.int32)
    first = jnp.where(logits == best, ids, logits.shape[-1] - 1).min(axis=-1)
    return first, -jnp.log(jnp.exp(logits - best).sum(axis=-1))


def kernel_columns(model, params: Any, ids: Array) -> Array:
    """The columns [embed, tokens] of the logits' kernel for ids int32 [tokens]."""
    return jnp.take(output_kernel(params, model.config)[0], ids, axis=1, mode="clip")


def _likeliest_choice(choices: Choices, states: Array, node: Array, cap: float) -> tuple[Array, Array, Array]:
    """Scaled states [rows, embed] -> token, its log-probability among those allowed, and the next node."""
    allowed = choices.tokens[node]
    logits = jnp.take_along_axis(states @ choices.kernel, jnp.maximum(allowed, 0), axis=1).astype(jnp.float32)
    log_probs = jax.nn.log_softmax(jnp.where(allowed >= 0, softcap(logits, cap), -jnp.inf))
    best = jnp.argmax(log_probs, axis=1, keepdims=True)

    def at_best(x):
        return jnp.take_along_axis(x, best, axis=1)[:, 0]

    return choices.ids[at_best(allowed)], at_best(log_probs), at_best(choices.children[node])


def decode_until(
    model,
    params: Any,
    encoded: Encoded,
    decoded: Decoded,
    rows: Rows,
    choices: Choices | None,
    max_length: Array,
    stop_at: Array,
    end_id: Array,
) -> tuple[Decoded, Rows]:
    """Decodes greedily until enough slots are free, all rows have ended, or one needs a longer window.

    Args:
      encoded, decoded, rows: of the slots; donate `decoded`.
      choices: the only outputs there may be: each step takes the likeliest token with which at least one of the
        row's texts goes on, and a row ends where a single text is left. None for any output.
      max_length: int32 [], tokens of a row at most, the end token included.
      stop_at: int32 [], stops at so many slots without a live row.
      end_id: int32 [], the end token.
    """
    slots, window = decoded.tokens.shape
    kernel, scale = output_kernel(params, model.config)
    cap = model.config.logits_cap
    # Keys and values are computed already: what `encode` returned is not read.
    unread = jnp.zeros((slots, 1, model.config.encoded_dim), model.config.dtype)

    def clock(decoded):
        return decoded.cache["decoder"]["cache_index"]

    def going_on(carry):
        decoded, rows = carry
        oldest = jnp.where(rows.occupied, clock(decoded) - rows.start, 0).max()
        return rows.live.any() & ((~rows.live).sum() < stop_at) & (oldest < window)

    def step(carry):
        decoded, rows = carry
        now = clock(decoded)
        variables = {"params": params, "cache": decoded.cache, "cross": encoded.cross}
        texts = unread, encoded.inputs, rows.last[:, None], None, None
        options = {"max_decode_length": window, "row_starts": rows.start, "mutable": ["cache"]}
        states, new = model.apply(variables, *texts, **CACHED, **options, method="decoder_states")
        states, node = states[:, 0] * scale, rows.node
        if choices is None:
            token, log_prob = likeliest(softcap((states @ kernel).astype(jnp.float32), cap))
            ends = (token == end_id) | (now - rows.start + 1 >= max_length)
        else:
            token, log_prob, child = _likeliest_choice(choices, states, jnp.maximum(node, 0), cap)
            node = jnp.where(rows.live, child, node)
            ends = child < 0
        token = jnp.where(rows.live, token, 0)
        tokens = jax.lax.dynamic_update_slice(decoded.tokens, token[:, None], (0, now % window))
        score = rows.score + jnp.where(rows.live, log_prob, 0.0)
        rows = rows.replace(last=token, live=rows.live & ~ends, score=score, node=node)
        return Decoded(new["cache"], tokens), rows

    return jax.lax.while_loop(going_on, step, (decoded, rows))


def _change_windows(decoded: Decoded, change: Callable[[Array, int], Array]) -> Decoded:
    """Applies a function of (array, axis of its positions) to the caches and the tokens."""
    cache = jax.tree.map(lambda x: change(x, x.ndim - 2) if x.ndim >= 4 else x, decoded.cache)
    return Decoded(cache, change(decoded.tokens, 1))


def double_window(decoded: Decoded) -> Decoded:
    """Twice the window. A row's own steps, which are no older than the old window, stay where they belong.

    The other half of the positions repeats them: as steps older than any row, which are never read.
    """
    return _change_windows(decoded, lambda x, axis: jnp.concatenate([x, x], axis=axis))


def halve_window(decoded: Decoded) -> Decoded:
    """Half the window: of the two steps that share a position then, the later one."""
    half = decoded.tokens.shape[1] // 2
    last = decoded.cache["decoder"]["cache_index"] - 1
    age = (last - jnp.arange(half)) % half
    kept = (last - age) % (2 * half)
    return _change_windows(decoded, lambda x, axis: jnp.take(x, kept, axis=axis, mode="clip"))


def _lengthen(x: Array, length: int, axis: int, fill: int = 0) -> Array:
    pads = [(0, 0)] * x.ndim
    pads[axis] = (0, length - x.shape[axis])
    return jnp.pad(x, pads, constant_values=fill)


def lengthen_inputs(encoded: Encoded, length: int, pad_id: int) -> Encoded:
    """Room for inputs of `length` tokens."""
    cross = jax.tree.map(lambda x: _lengthen(x, length, x.ndim - 2), encoded.cross)
    return Encoded(_lengthen(encoded.inputs, length, 1, pad_id), cross)


def select_slots(encoded: Encoded, decoded: Decoded, slots: Array, length: int) -> tuple[Encoded, Decoded]:
    """Only these slots, int32 [fewer], and of their inputs the first `length` tokens."""
    inputs, tokens = (jnp.take(x, slots, axis=0, mode="clip") for x in (encoded.inputs, decoded.tokens))
    cross = jax.tree.map(lambda x: x[..., :length, :], take_rows(encoded.cross, slots))
    return Encoded(inputs[:, :length], cross), Decoded(take_rows(decoded.cache, slots), tokens)
