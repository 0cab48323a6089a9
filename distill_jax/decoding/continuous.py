"""Continuous batching: greedy decoding of many rows in a batch of slots that stays full.

When rows have ended, others take their slots, so that a long output does not hold up the batch. This is the
host half, which decides what row is in what slot, and when; the programs are in `continuous_device`. Outputs
are free (`decode`), or one of given texts (`choose`). `model` is a `models.t5.Transformer` throughout, `params`
are its parameters, quantized or not.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from distill_jax.data.vocabularies import EOS_ID
from distill_jax.decoding import continuous_device
from distill_jax.decoding.batching import batch_sizes, bucket_length, fine_length, padded, slot_counts
from distill_jax.decoding.quantization import jit_dequantized
from distill_jax.decoding.tries import build_tries, text_number

Tokens = Sequence[int]
REFILL = 8  # rows are admitted once a slot in so many is free: encoding several together is quicker

_empty_slots = jax.jit(continuous_device.empty_slots, static_argnums=(0, 2, 3, 4))
_admit = jit_dequantized(continuous_device.admit, static_argnums=0, donate_argnums=2)
_decode_until = jit_dequantized(continuous_device.decode_until, static_argnums=0, donate_argnums=3)
_kernel_columns = jit_dequantized(continuous_device.kernel_columns, static_argnums=0)
_double_window = jax.jit(continuous_device.double_window)
_halve_window = jax.jit(continuous_device.halve_window)
_lengthen_inputs = jax.jit(continuous_device.lengthen_inputs, static_argnums=(1, 2))
_select_slots = jax.jit(continuous_device.select_slots, static_argnums=3)


class Slots:
    """`count` slots for inputs of `length` tokens at first, and the rows in them.

    With `tries`, a `Tries`, these are the only outputs there may be; the other arguments are those of `decode`.
    """

    def __init__(
        self,
        model,
        params,
        count: int,
        length: int,
        *,
        longest: int,
        max_length: int,
        start_id: int = 0,
        end_id: int = EOS_ID,
        tries=None,
    ):
        self._model, self._params, self._longest = model, params, longest
        self._max_length, self._start_id, self._end_id = max_length, start_id, end_id
        self._tries, self._choices = tries, None
        if tries is not None:
            kernel = _kernel_columns(model, params, tries.ids)
            self._choices = continuous_device.Choices(kernel, tries.ids, tries.tokens, tries.children)
        self._window = bucket_length(1)
        self._length = bucket_length(length, longest)
        self._encoded, self._decoded = _empty_slots(model, params, count, self._length, self._window)
        self._clock = 0
        self._items = np.full(count, -1)  # the row in each slot; -1 is none
        self._input_tokens = np.zeros(count, int)  # of that row
        (start, last, node), (occupied, live) = np.zeros((3, count), np.int32), np.zeros((2, count), bool)
        score = np.zeros(count, np.float32)
        self._rows = continuous_device.Rows(start, last, occupied, live, score, node)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def free(self) -> int:
        """Slots without a row."""
        return int((self._items < 0).sum())

    def admit(self, items: Sequence[int], rows: Sequence[Tokens], count: int) -> None:
        """Puts rows into free slots, under the names by which `step` returns them.

        They are encoded `count` at a time, which is a shape to compile; empty rows fill up what is missing.
        """
        longest = max(map(len, rows))
        if longest > self._length:
            self._length = bucket_length(longest, self._longest)
            self._encoded = _lengthen_inputs(self._encoded, self._length, self._model.config.pad_id)
        slots = np.flatnonzero(self._items < 0)[:count].astype(np.int32)
        inputs = padded(rows, (count, min(fine_length(longest), self._length)), self._model.config.pad_id)
        self._encoded = _admit(self._model, self._params, self._encoded, inputs, slots)
        taken = slots[: len(items)]
        self._items[taken], self._input_tokens[taken] = items, [len(row) for row in rows]
        self._rows.start[taken], self._rows.last[taken] = self._clock, self._start_id
        self._rows.live[taken], self._rows.score[taken] = True, 0.0
        if self._tries is not None:
            self._rows.node[taken] = self._tries.roots[items]

    def step(self, stop_at: int) -> list[tuple[int, Any, float]]:
        """Decodes until `stop_at` slots are free; the rows that have ended: name, output, score.

        An output is int32 [max_length at most], or with tries the number of the text that was chosen.
        """
        self._fit_window()
        occupied = self._items >= 0
        rows = self._rows.replace(occupied=occupied)
        limits = np.int32(self._max_length), np.int32(stop_at), np.int32(self._end_id)
        self._decoded, rows = _decode_until(
            self._model, self._params, self._encoded, self._decoded, rows, self._choices, *limits
        )
        clock = self._decoded.cache["decoder"]["cache_index"]
        rows, tokens, clock = jax.device_get((rows, self._decoded.tokens, clock))
        self._clock, self._rows = int(clock), jax.tree.map(np.array, rows)  # copies, which can be written
        ended = []
        for slot in np.flatnonzero(occupied & ~rows.live):
            if self._tries is None:
                # Whatever was written after the row's end, while others went on, is 0.
                positions = np.arange(rows.start[slot], self._clock)[: self._max_length] % self._window
                output = tokens[slot, positions]
            else:
                output = text_number(rows.node[slot])
            ended.append((int(self._items[slot]), output, float(rows.score[slot])))
            self._items[slot] = -1
        return ended

    def _fit_window(self) -> None:
        """A window with room for the oldest row's next token, and not more than four times that."""
        oldest = int((self._clock - self._rows.start[self._rows.live]).max(initial=0))
        while oldest >= self._window:
            self._decoded, self._window = _double_window(self._decoded), 2 * self._window
        while self._window > bucket_length(1) and oldest < self._window // 4:
            self._decoded, self._window = _halve_window(self._decoded), self._window // 2

    def shrink(self, count: int) -> None:
        """Leaves `count` slots, those with rows among them, no longer than their inputs need."""
        kept = np.argsort(self._items < 0, kind="stable")[:count].astype(np.int32)
        of_slots = self._items, self._input_tokens, self._rows
        self._items, self._input_tokens, self._rows = jax.tree.map(lambda x: x[kept], of_slots)
        longest = int(self._input_tokens[self._items >= 0].max(initial=1))
        self._length = min(fine_length(longest), self._length)
        self._encoded, self._decoded = _select_slots(self._encoded, self._decoded, kept, self._length)


def decode(
    model,
    params,
    rows: Sequence[Tokens],
    *,
    batch_size: int,
    longest: int,
    max_length: int,
    start_id: int = 0,
    end_id: int = EOS_ID,
) -> Iterator[tuple[int, np.ndarray, float]]:
    """Decodes every row greedily, the shortest first.

    A row's tokens do not depend on the others, but for rounding where two tokens are as likely to the last bit.

    Args:
      rows: the inputs' tokens, each with the end token.
      batch_size: slots at most.
      longest: cap of the inputs' padded lengths, unless they are longer.
      max_length: tokens of an output at most, the end token included.
      start_id: the decoder's first input token.
      end_id: the end token.

    Yields:
      Each row's place in `rows`, its tokens int32 [max_length at most], 0 after the end token, and the sum of
      their log-probabilities; as they end, in any order.
    """
    limits = {"longest": longest, "max_length": max_length, "start_id": start_id, "end_id": end_id}
    yield from _decode_all(model, params, rows, _shortest_first(rows), batch_size, **limits)


def choose(
    model,
    params,
    rows: Sequence[Tokens],
    choices: Sequence[Sequence[Tokens]],
    *,
    batch_size: int,
    longest: int,
    start_id: int = 0,
) -> Iterator[tuple[int, int, float]]:
    """Decodes greedily what can only be one of given texts; the arguments are those of `decode`.

    `choices` are of each row one or more texts' tokens, each with the end token. Each step takes the likeliest
    of the tokens with which at least one text goes on. A text is known once no other is left, and its further
    tokens are not decoded.

    Yields:
      Each row's place in `rows`, the place of its text in the row's choices, and the text's log-probability, of
      which at each step the allowed tokens share the whole.
    """
    tries = build_tries(choices)
    undecided = []
    for item in _shortest_first(rows):
        if tries.roots[item] < 0:
            yield item, text_number(tries.roots[item]), 0.0
        else:
            undecided.append(item)
    longest_text = max((len(text) for row_choices in choices for text in row_choices), default=1)
    limits = {"longest": longest, "max_length": longest_text, "start_id": start_id, "tries": tries}
    yield from _decode_all(model, params, rows, undecided, batch_size, **limits)


def _shortest_first(rows: Sequence[Tokens]) -> list[int]:
    return np.argsort([len(row) for row in rows], kind="stable").tolist()


def _decode_all(
    model, params, rows: Sequence[Tokens], waiting: list[int], batch_size: int, **limits
) -> Iterator[tuple[int, Any, float]]:
    """Decodes the waiting rows, in their order; `limits` are those of `Slots`."""
    if not waiting:
        return
    count = next((size for size in batch_sizes(batch_size) if size >= len(waiting)), batch_size)
    sizes = slot_counts(count)
    refill = max(count // REFILL, 1)
    slots = Slots(model, params, count, len(rows[waiting[:count][-1]]), **limits)
    while waiting or slots.free < len(slots):
        while waiting and slots.free >= refill:
            items, waiting = waiting[:refill], waiting[refill:]
            slots.admit(items, [rows[item] for item in items], refill)
        smaller = [size for size in sizes if size < len(slots)]
        if not waiting and smaller and len(slots) - slots.free <= smaller[-1]:
            slots.shrink(next(size for size in smaller if size >= len(slots) - slots.free))
            smaller = [size for size in sizes if size < len(slots)]
        # With none waiting, free slots only matter once a smaller batch would do.
        stop_at = refill if waiting else len(slots) - (smaller[-1] if smaller else 0)
        yield from slots.step(max(stop_at, 1))
