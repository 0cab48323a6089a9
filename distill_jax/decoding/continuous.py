"""Greedy decoding of many rows in a batch that stays full: which row goes into which slot, and when.

Outputs are free (`decode`), or one of some given texts (`choose`).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from distill_jax.data.vocabularies import EOS_ID
from distill_jax.decoding import continuous_device
from distill_jax.decoding.batching import batch_sizes, bucket_length, fine_length, padded
from distill_jax.decoding.quantization import program
from distill_jax.decoding.tries import Trees, plant, text_at

REFILL = 8  # a slot in so many is free before others are encoded: some together are quicker than each alone

_admit = program(continuous_device.admit, static_argnums=0, donate_argnums=2)
_run = program(continuous_device.run, static_argnums=0, static_argnames="eos_id", donate_argnums=3)
_widen = jax.jit(continuous_device.widen)
_narrow = jax.jit(continuous_device.narrow)
_lengthen = jax.jit(continuous_device.lengthen, static_argnums=1)
_keep = jax.jit(continuous_device.keep)
_narrowed = program(continuous_device.narrowed, static_argnums=0)


class Batch:
    """Slots, and the rows in them.

    Args:
      model: a `models.t5.Transformer`.
      params: its parameters.
      slots: rows at a time.
      length: of the inputs, at first.
      longest: cap of the inputs' padded lengths, unless they are longer.
      max_length: tokens of an output at most, the end token included.
      start_id: the decoder's first input token.
      trees: of the only outputs there may be.
    """

    def __init__(
        self,
        model,
        params: Any,
        slots: int,
        length: int,
        longest: int,
        max_length: int,
        start_id: int = 0,
        trees: Trees | None = None,
    ):
        self._model, self._params, self._longest = model, params, longest
        self._max_length, self._start_id = max_length, start_id
        self._trees, self._choices = trees, None
        if trees is not None:
            kernel = _narrowed(model, params, trees.ids)
            self._choices = continuous_device.Choices(kernel, trees.ids, trees.tokens, trees.after)
        self._window = bucket_length(1)
        self._length = bucket_length(length, longest)
        self._sources, self._written = continuous_device.empty(model, params, slots, self._length, self._window)
        self._clock = 0
        self._items = np.full(slots, -1)
        self._start, self._last, self._node = np.zeros((3, slots), np.int32)
        self._live = np.zeros(slots, bool)
        self._score = np.zeros(slots, np.float32)

    @property
    def free(self) -> int:
        """Slots without a row."""
        return int((self._items < 0).sum())

    @property
    def slots(self) -> int:
        return len(self._items)

    def admit(self, items: Sequence[int], rows: Sequence[Sequence[int]], count: int) -> None:
        """Puts rows, with the names by which `step` returns them, into free slots.

        They are encoded `count` at a time, which is a shape to compile; empty rows fill up what is missing.
        """
        longest = max(map(len, rows))
        if longest > self._length:
            self._length = bucket_length(longest, self._longest)
            self._sources = _lengthen(self._sources, self._length)
        slots = np.flatnonzero(self._items < 0)[:count].astype(np.int32)
        inputs = padded(rows, (count, min(fine_length(longest), self._length)))
        self._sources = _admit(self._model, self._params, self._sources, inputs, slots)
        taken = slots[: len(items)]
        self._items[taken] = items
        self._start[taken], self._last[taken] = self._clock, self._start_id
        self._live[taken], self._score[taken] = True, 0.0
        if self._trees is not None:
            self._node[taken] = self._trees.roots[items]

    def step(self, stop_at: int) -> list[tuple[int, Any, float]]:
        """Decodes until so many slots are free; the rows that have ended: name, output, score.

        An output is int32 [max_length at most], or with trees the number of the text that was chosen.
        """
        self._fit_window()
        held = self._items >= 0
        rows = continuous_device.Rows(self._start, self._last, held, self._live, self._score, self._node)
        self._written, rows = _run(
            self._model,
            self._params,
            self._sources,
            self._written,
            rows,
            self._choices,
            np.int32(self._max_length),
            np.int32(stop_at),
            eos_id=EOS_ID,
        )
        clock = self._written.cache["decoder"]["cache_index"]
        rows, tokens, clock = jax.device_get((rows, self._written.tokens, clock))
        self._clock = int(clock)
        self._last, self._live, self._score, self._node = (
            np.array(x) for x in (rows.last, rows.live, rows.score, rows.node)
        )
        ended = []
        for slot in np.flatnonzero(held & ~self._live):
            if self._trees is None:
                # What came after the end, while the others went on, is 0.
                places = np.arange(self._start[slot], self._clock)[: self._max_length] % self._window
                output = tokens[slot, places]
            else:
                output = text_at(self._node[slot])
            ended.append((int(self._items[slot]), output, float(self._score[slot])))
            self._items[slot] = -1
        return ended

    def _fit_window(self) -> None:
        """A window that has room for the oldest row's next token, and not more than twice that."""
        oldest = int((self._clock - self._start[self._live]).max(initial=0))
        while oldest >= self._window:
            self._written, self._window = _widen(self._written), 2 * self._window
        while self._window > bucket_length(1) and oldest < self._window // 4:
            self._written, self._window = _narrow(self._written), self._window // 2

    def shrink(self, slots: int) -> None:
        """Leaves only so many slots, those with rows among them."""
        kept = np.argsort(self._items < 0, kind="stable")[:slots].astype(np.int32)
        self._sources, self._written = _keep(self._sources, self._written, kept)
        self._items, self._start, self._last, self._live, self._score, self._node = (
            x[kept] for x in (self._items, self._start, self._last, self._live, self._score, self._node)
        )


def decode(
    model,
    params: Any,
    rows: Sequence[Sequence[int]],
    *,
    batch_size: int,
    longest: int,
    max_length: int,
    start_id: int = 0,
) -> Iterator[tuple[int, np.ndarray, float]]:
    """Decodes every row greedily, the shortest first.

    A row's tokens do not depend on the others, but for rounding where two tokens are as likely to the last bit.

    Args:
      model: a `models.t5.Transformer`.
      params: its parameters.
      rows: the inputs' tokens, each with the end token.
      batch_size: slots at most.
      longest: cap of the inputs' padded lengths, unless they are longer.
      max_length: tokens of an output at most, the end token included.
      start_id: the decoder's first input token.

    Yields:
      Each row's place in `rows`, its tokens int32 [max_length at most], 0 after the end token, and the sum of
      their log-probabilities; as they end, in any order.
    """
    order = np.argsort([len(row) for row in rows], kind="stable").tolist()
    yield from _work_off(model, params, rows, order, batch_size, longest, max_length, start_id, None)


def choose(
    model,
    params: Any,
    rows: Sequence[Sequence[int]],
    choices: Sequence[Sequence[Sequence[int]]],
    *,
    batch_size: int,
    longest: int,
) -> Iterator[tuple[int, int, float]]:
    """Decodes greedily what can only be one of some texts; see `decode`.

    At each step the likeliest token is taken of those with which at least one text goes on. A text is
    known once no other is left, and its further tokens are not decoded.

    Args:
      model: a `models.t5.Transformer`.
      params: its parameters.
      rows: the inputs' tokens, each with the end token.
      choices: of each row one or more texts' tokens, each with the end token.
      batch_size: slots at most.
      longest: cap of the inputs' padded lengths, unless they are longer.

    Yields:
      Each row's place in `rows`, the place of its text in the row's choices, and the text's log-probability,
      where at each step the allowed tokens share all there is.
    """
    trees = plant(choices)
    order = []
    for item in np.argsort([len(row) for row in rows], kind="stable").tolist():
        if trees.roots[item] < 0:
            yield item, text_at(trees.roots[item]), 0.0
        else:
            order.append(item)
    longest_text = max((len(text) for some in choices for text in some), default=1)
    yield from _work_off(model, params, rows, order, batch_size, longest, longest_text, 0, trees)


def _work_off(
    model,
    params: Any,
    rows: Sequence[Sequence[int]],
    waiting: list[int],
    batch_size: int,
    longest: int,
    max_length: int,
    start_id: int,
    trees: Trees | None,
) -> Iterator[tuple[int, Any, float]]:
    """Decodes the rows that wait, in their order."""
    if not waiting:
        return
    sizes = batch_sizes(batch_size)
    slots = next((size for size in sizes if size >= len(waiting)), batch_size)
    refill = max(slots // REFILL, 1)
    batch = Batch(model, params, slots, len(rows[waiting[:slots][-1]]), longest, max_length, start_id, trees)
    while waiting or batch.free < batch.slots:
        while waiting and batch.free >= refill:
            items, waiting = waiting[:refill], waiting[refill:]
            batch.admit(items, [rows[item] for item in items], refill)
        smaller = [size for size in sizes if size < batch.slots]
        if not waiting and smaller and batch.slots - batch.free <= smaller[-1]:
            batch.shrink(next(size for size in smaller if size >= batch.slots - batch.free))
            smaller = [size for size in sizes if size < batch.slots]
        # With none waiting, free slots only matter once fewer would do.
        stop_at = refill if waiting else batch.slots - (smaller[-1] if smaller else 0)
        yield from batch.step(max(stop_at, 1))
