"""Requests of many connections, worked off together: one model, one thread, one bounded queue."""

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
    """The server is stopping."""


@dataclasses.dataclass(slots=True)
class _Waiting:
    item: Any
    answer: asyncio.Future
    since: float
    left_queue: bool = False


class Batcher:
    """Collects items with the same key until there are enough, or the first has waited long enough.

    While a batch runs, the items for the next ones gather: under load batches are full and nobody waits
    for `max_wait`. The oldest item decides whose turn it is.

    Args:
      run: (key, items) -> an answer of each; called in a thread of its own, one call at a time.
      batch_size: items of a batch at most.
      max_queue: items that may wait.
      max_wait: seconds that an item waits for company.
      on_batch: called with the number of items of each batch.
    """

    def __init__(
        self,
        run: Callable[[Hashable, list[Any]], Sequence[Any]],
        *,
        batch_size: int,
        max_queue: int,
        max_wait: float,
        on_batch: Callable[[int], None] = lambda size: None,
    ):
        self._run = run
        self._batch_size = batch_size
        self._max_queue = max_queue
        self._max_wait = max_wait
        self._on_batch = on_batch
        self._queues: dict[Hashable, collections.deque[_Waiting]] = {}
        self._arrived = asyncio.Event()
        self._executor = concurrent.futures.ThreadPoolExecutor(1, "student")
        self._worker: asyncio.Task | None = None
        self._closed = False
        self.waiting = 0

    def start(self) -> None:
        """Begins to work; within a running event loop."""
        self._worker = asyncio.create_task(self._work())

    @property
    def closed(self) -> bool:
        """Whether it takes nothing more."""
        return self._closed

    async def submit(self, key: Hashable, items: Sequence[Any]) -> list[Any]:
        """The answers to some items, in order; cancelled, those that have not begun are dropped.

        Raises:
          Full: when the queue has no room for all of them.
          Closed: when the server is stopping.
        """
        if self._closed:
            raise Closed
        if self.waiting + len(items) > self._max_queue:
            raise Full
        loop, now = asyncio.get_running_loop(), time.monotonic()
        entries = [_Waiting(item, loop.create_future(), now) for item in items]
        self._queues.setdefault(key, collections.deque()).extend(entries)
        self.waiting += len(entries)
        self._arrived.set()
        try:
            return await asyncio.gather(*(entry.answer for entry in entries))
        finally:
            for entry in entries:
                entry.answer.cancel()
                self._leave(entry)

    async def close(self) -> None:
        """Takes nothing more, answers what waits, and stops."""
        self._closed = True
        if self._worker is not None:
            self._arrived.set()
            await self._worker
        self._executor.shutdown()

    def _leave(self, entry: _Waiting) -> None:
        self.waiting -= not entry.left_queue
        entry.left_queue = True

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            key = min(self._queues, key=lambda k: self._queues[k][0].since, default=None)
            if key is None:
                if self._closed:
                    return
                self._arrived.clear()
                continue
            queue = self._queues[key]
            left = queue[0].since + self._max_wait - time.monotonic()
            if len(queue) < self._batch_size and left > 0 and not self._closed:
                await asyncio.sleep(left)
            await self._run_batch(key, queue)

    async def _run_batch(self, key: Hashable, queue: collections.deque[_Waiting]) -> None:
        taken: list[_Waiting] = []
        while queue and len(taken) < self._batch_size:
            entry = queue.popleft()
            if not entry.left_queue:  # else its caller has given up
                self._leave(entry)
                taken.append(entry)
        if not queue:
            del self._queues[key]
        if not taken:
            return
        self._on_batch(len(taken))
        loop = asyncio.get_running_loop()
        try:
            items = [entry.item for entry in taken]
            answers = await loop.run_in_executor(self._executor, self._run, key, items)
            answered = list(zip(taken, answers, strict=True))
        except Exception as error:
            for entry in taken:
                with contextlib.suppress(asyncio.InvalidStateError):
                    entry.answer.set_exception(error)
            return
        for entry, answer in answered:
            if not entry.answer.done():
                entry.answer.set_result(answer)
