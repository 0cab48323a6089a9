"""Micro-batching: concurrent callers share batches on one thread, which owns the model."""

import asyncio
import collections
import concurrent.futures
import dataclasses
import itertools
import logging
import time
from collections.abc import Callable, Hashable, Sequence, Set
from typing import Any

logger = logging.getLogger(__name__)


class Full(Exception):
    """The queue has no room; try again later."""


class Closed(Exception):
    """The batcher is closing and takes no new items."""


@dataclasses.dataclass(slots=True)
class _Entry:
    item: Any
    answer: asyncio.Future
    since: float
    has_waited: bool = False  # for others to join its batch
    left_queue: bool = False


class _Lane:
    """A thread that runs batches one by one, and the task that gives it them."""

    def __init__(self, name: str):
        self.executor = concurrent.futures.ThreadPoolExecutor(1, name)
        self.worker: asyncio.Task | None = None

    @property
    def works(self) -> bool:
        return self.worker is not None and not self.worker.done()


class MicroBatcher:
    """Collects items with the same key until a batch is full, or its first item has waited `max_wait`.

    While a batch runs, the items of the next ones gather: under load batches are full and nobody waits
    for `max_wait`. The key of the oldest item runs next. When a batch fails, its items run again one by one,
    so that only callers whose own item fails get an error.

    Args:
      run: (key, items) -> one answer per item; called in a thread of its own, one call at a time.
      batch_size: items per batch at most.
      max_queue: items that may wait; None for no limit.
      max_wait: seconds that an item waits for others.
      on_batch: called with the number of items of each batch.
      programs: (key, items) -> names of the programs that a batch needs. A batch with one that has not run yet
        may have to compile it: it runs in a second thread, and batches without new ones pass it. None for one
        thread.
    """

    def __init__(
        self,
        run: Callable[[Hashable, list[Any]], Sequence[Any]],
        *,
        batch_size: int,
        max_queue: int | None = None,
        max_wait: float = 0.0,
        on_batch: Callable[[int], None] = lambda size: None,
        programs: Callable[[Hashable, list[Any]], Set[Hashable]] | None = None,
    ):
        self._run, self._batch_size, self._on_batch = run, batch_size, on_batch
        self._max_queue, self._max_wait, self._programs = max_queue, max_wait, programs
        self._queues: dict[Hashable, collections.deque[_Entry]] = {}
        self._known: set[Hashable] = set()
        self._lanes = [_Lane("microbatch")] + ([] if programs is None else [_Lane("microbatch-new")])
        self.closed = False
        self.waiting = 0

    async def submit(self, key: Hashable, items: Sequence[Any]) -> list[Any]:
        """The answers to the items, in order; when the caller is cancelled, items not yet begun are dropped.

        Raises:
          Full: when the queue has no room for all of them.
          Closed: after `close`.
          Exception: whatever `run` raised for one of them alone.
        """
        if self.closed:
            raise Closed
        if self._max_queue is not None and self.waiting + len(items) > self._max_queue:
            raise Full
        loop, now = asyncio.get_running_loop(), time.monotonic()
        entries = [_Entry(item, loop.create_future(), now) for item in items]
        if entries:
            self._queues.setdefault(key, collections.deque()).extend(entries)
        self.waiting += len(entries)
        self._wake()
        try:
            return await asyncio.gather(*(entry.answer for entry in entries))
        finally:
            for entry in entries:
                entry.answer.cancel()
                self._leave(entry)

    async def close(self) -> None:
        """Takes no new items, answers those that wait, and ends the threads."""
        self.closed = True
        while workers := [lane.worker for lane in self._lanes if lane.works]:
            await asyncio.gather(*workers)
        for lane in self._lanes:
            lane.executor.shutdown()

    def _leave(self, entry: _Entry) -> None:
        self.waiting -= not entry.left_queue
        entry.left_queue = True

    def _wake(self) -> None:
        for lane in self._lanes:
            if not lane.works:
                lane.worker = asyncio.create_task(self._work(lane))

    async def _work(self, lane: _Lane) -> None:
        while oldest := self._oldest(lane):
            key, queue = oldest
            if len(queue) < self._batch_size and not (first := queue[0]).has_waited:
                # Even a wait of 0 lets the callers of this moment in.
                remaining = first.since + self._max_wait - time.monotonic()
                await asyncio.sleep(0.0 if self.closed else max(0.0, remaining))
                first.has_waited = True
                continue  # the other lane may have taken it
            await self._run_batch(lane, key)
            self._wake()  # what was new is known now

    def _oldest(self, lane: _Lane) -> tuple[Hashable, collections.deque[_Entry]] | None:
        """The queue of the oldest item whose batch is for this lane, with its key."""
        for key, queue in list(self._queues.items()):
            while queue and queue[0].left_queue:  # its caller has given up
                queue.popleft()
            if not queue:
                del self._queues[key]
        by_age = sorted(self._queues.items(), key=lambda pair: pair[1][0].since)
        return next((pair for pair in by_age if self._lane_of(pair[0]) is lane), None)

    def _lane_of(self, key: Hashable) -> _Lane:
        if self._programs is None:
            return self._lanes[0]
        items = [entry.item for entry in self._next(key)]
        return self._lanes[not self._programs(key, items) <= self._known]

    def _next(self, key: Hashable) -> list[_Entry]:
        """What the next batch of a key would hold."""
        live = (entry for entry in self._queues[key] if not entry.left_queue)
        return list(itertools.islice(live, self._batch_size))

    async def _run_batch(self, lane: _Lane, key: Hashable) -> None:
        batch = self._next(key)
        for entry in batch:
            self._leave(entry)
        self._on_batch(len(batch))
        items = [entry.item for entry in batch]
        try:
            answers = await self._in_thread(lane, key, items)
        except Exception as error:
            if len(batch) > 1:
                logger.warning("a batch of %d failed, and runs again one by one: %r", len(batch), error)
                answers = [await self._alone(lane, key, item) for item in items]
            else:
                answers = [error]
        else:
            if self._programs is not None:
                self._known |= self._programs(key, items)
        for entry, answer in zip(batch, answers, strict=True):
            if entry.answer.done():  # its caller has given up
                continue
            if isinstance(answer, Exception):
                entry.answer.set_exception(answer)
            else:
                entry.answer.set_result(answer)

    async def _alone(self, lane: _Lane, key: Hashable, item: Any) -> Any:
        """The answer to an item, or the error that it raises."""
        try:
            return (await self._in_thread(lane, key, [item]))[0]
        except Exception as error:
            return error

    async def _in_thread(self, lane: _Lane, key: Hashable, items: list[Any]) -> list[Any]:
        answers = await asyncio.get_running_loop().run_in_executor(lane.executor, self._run, key, items)
        return [answer for _, answer in zip(items, answers, strict=True)]  # raises where one is missing
