"""Gathers concurrent calls into batches, for teachers that run in this process."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

Item, Result = TypeVar("Item"), TypeVar("Result")


class MicroBatcher:
    """Calls `function` with up to `size` items at a time, in a thread, one batch after another.

    While a batch runs the next one gathers, so that there is no time to wait for.
    """

    def __init__(self, function: Callable[[Sequence[Item]], Sequence[Result]], size: int):
        self._function, self._size = function, size
        self._waiting: list[tuple[Item, asyncio.Future]] = []
        self._worker: asyncio.Task | None = None

    async def __call__(self, item: Item) -> Result:
        """The result of one item; raises what `function` raised."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # lets the others of this moment in
            batch, self._waiting = self._waiting[: self._size], self._waiting[self._size :]
            try:
                results = await asyncio.to_thread(self._function, [item for item, _ in batch])
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)
