"""How many requests at a time: few at first, more while answers come, fewer when the server falls behind."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from distill_jax.teachers.messages import TeacherError

logger = logging.getLogger(__name__)
Answered = TypeVar("Answered")
FIRST = 4  # requests at a time, to a server that is not known yet
_SLOW = 0.25  # share of the time-out: an answer that takes longer may have waited in the server's queue


class Window:
    """Additive increase, multiplicative decrease (Chiu and Jain 1989, doi:10.1016/0169-7552(89)90019-6).

    As TCP's congestion window (RFC 5681): each answer allows one more request, which doubles the number every
    round, until the server first falls behind; from then on a round of answers allows one more. An overloaded
    server halves the number, once for all requests under way. An answer that took more than a quarter of the
    time-out, and twice as long as the quickest, has waited for others: it allows no more, so that a
    server with a few slots is not driven into time-outs.

    Args:
      most: requests at a time.
      timeout: seconds of a request.
      first: requests at a time at the beginning.
    """

    def __init__(self, most: int, timeout: float, first: int):
        self._most, self._slow = most, _SLOW * timeout
        self._limit = float(min(first, most))
        self._open, self._changed = 0, asyncio.Condition()
        self._doubling, self._halved, self._quickest = True, 0, float("inf")
        self._told = False  # of time-outs

    @property
    def limit(self) -> int:
        """Requests that may be under way now."""
        return int(self._limit)

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Waits until there is room for one more request, and holds its place."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._open < self.limit)
            self._open += 1
        try:
            yield
        finally:
            async with self._changed:
                self._open -= 1
                self._changed.notify(max(1, self.limit - self._open))

    async def watch(self, ask: Callable[[], "asyncio.Future[Answered]"]) -> Answered:
        """What `ask` answers; learns from the time that takes, and from its TeacherError."""
        begun, halved = asyncio.get_running_loop().time(), self._halved
        try:
            answer = await ask()
        except TeacherError as error:
            if error.overloaded and halved == self._halved:
                self._halve(error)
            raise
        self._grow(asyncio.get_running_loop().time() - begun)
        return answer

    def _grow(self, seconds: float) -> None:
        self._quickest = min(self._quickest, seconds)
        if seconds > max(self._slow, 2 * self._quickest):
            self._doubling = False
        else:
            more = 1.0 if self._doubling else 1.0 / self._limit
            self._limit = min(self._limit + more, float(self._most))

    def _halve(self, error: TeacherError) -> None:
        self._doubling, self._halved = False, self._halved + 1
        self._limit = max(1.0, self._limit // 2)
        tell = logger.warning if error.timed_out and not self._told else logger.info
        tell("%s: from now on at most %d requests at a time, more when answers come again", error, self.limit)
        self._told |= error.timed_out
