"""Micro-batching: concurrent callers share batches on one thread, which owns the model."""

import asyncio
import collections
import concurrent.futures
import contextlib
import dataclasses
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any


class Full(Exception):
    """The queue has no room; try again later."""


class Closed(Exception):
    """The batcher is closing and takes no new items."""


@dataclasses.dataclass(slots=True)
class _Entry:
    item: Any
    answer: asyncio.Future
    since: float
    left_queue: bool = False


class MicroBatcher:
    """Collects items with the same key until a batch is full, or its first item has waited `max_wait`.

    While a batch runs, the items of the next ones gather: under load batches are full and nobody waits
    for `max_wait`. The key of the oldest item runs next.

    Args:
      run: (key, items) -> one answer per item; called in a thread of its own, one call at a time.
      batch_size: items per batch at most.
      max_queue: items that may wait; None for no limit.
      max_wait: seconds that an item waits for others.
      on_batch: called with the number of items of each batch.
    """

    def __init__(
        self,
        run: Callable[[Hashable, list[Any]], Sequence[Any]],
        *,
        batch_size: int,
        max_queue: int | None = None,
        max_wait: float = 0.0,
        on_batch: Callable[[int], None] = lambda size: None,
    ):
        self._run, self._batch_size, self._on_batch = run, batch_size, on_batch
        self._max_queue, self._max_wait = max_queue, max_wait
        self._queues: dict[Hashable, collections.deque[_Entry]] = {}
        self._executor = concurrent.futures.ThreadPoolExecutor(1, "microbatch")
        self._worker: asyncio.Task | None = None
        self.closed = False
        self.waiting = 0

    async def submit(self, key: Hashable, items: Sequence[Any]) -> list[Any]:
        """The answers to the items, in order; when the caller is cancelled, items not yet begun are dropped.

        Raises:
          Full: when the queue has no room for all of them.
          Closed: after `close`.
          Exception: whatever `run` raised for one of their batches.
        """
        if self.closed:
            raise Closed
        if self._max_queue is not None and self.waiting + len(items) > self._max_queue:
            raise Full
        loop, now = asyncio.get_running_loop(), time.monotonic()
        entries = [_Entry(item, loop.create_future(), now) for item in items]
        self._queues.setdefault(key, collections.deque()).extend(entries)
        self.waiting += len(entries)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        try:
            return await asyncio.gather(*(entry.answer for entry in entries))
        finally:
            for entry in entries:
                entry.answer.cancel()
                self._leave(entry)

    async def close(self) -> None:
        """Takes no new items, answers those that wait, and ends the thread."""
        self.closed = True
        if self._worker is not None:
            await self._worker
        self._executor.shutdown()

    def _leave(self, entry: _Entry) -> None:
        self.waiting -= not entry.left_queue
        entry.left_queue = True

    async def _work(self) -> None:
        while self._queues:
            key, queue = min(self._queues.items(), key=lambda pair: pair[1][0].since)
            if len(queue) < self._batch_size:  # even a wait of 0 lets the callers of this moment in
                remaining = queue[0].since + self._max_wait - time.monotonic()
                await asyncio.sleep(0.0 if self.closed else max(0.0, remaining))
            await self._run_batch(key, queue)

    async def _run_batch(self, key: Hashable, queue: collections.deque[_Entry]) -> None:
        batch: list[_Entry] = []
        while queue and len(batch) < self._batch_size:
            entry = queue.popleft()
            if not entry.left_queue:  # else its caller has given up
                self._leave(entry)
                batch.append(entry)
        if not queue:
            del self._queues[key]
        if not batch:
            return
        self._on_batch(len(batch))
        loop = asyncio.get_running_loop()
        try:
            items = [entry.item for entry in batch]
            answers = await loop.run_in_executor(self._executor, self._run, key, items)
            answered = list(zip(batch, answers, strict=True))
        except Exception as error:
            for entry in batch:
                with contextlib.suppress(asyncio.InvalidStateError):
                    entry.answer.set_exception(error)
            return
        for entry, answer in answered:
            if not entry.answer.done():
                entry.answer.set_result(answer)
