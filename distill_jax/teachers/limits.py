"""What limits a run: requests and tokens per minute, and a budget in requests, tokens or dollars."""

import asyncio
import contextlib
import datetime
import logging
import math
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from distill_jax.teachers.prices import Price

logger = logging.getLogger(__name__)
LONG_PAUSE = 60.0  # seconds
BYTES_PER_TOKEN = 3.0  # of a prompt, before an endpoint has reported any; errs on the high side for English


class Pace:
    """At most `per_minute` units per minute, evenly spaced, first come first served; None for no limit.

    The generic cell rate algorithm (virtual scheduling). Unlike a token bucket that starts full, it allows no
    burst of a whole minute's units: any minute sees at most the rate plus one second's share.
    """

    def __init__(self, per_minute: float | None, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep):
        self._interval = 0.0 if per_minute is None else 60.0 / per_minute
        self._next, self._sleep = 0.0, sleep

    async def take(self, amount: float = 1.0) -> None:
        """Waits until `amount` units may pass."""
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now - 1.0)
        wait = self._next - now
        self._next += amount * self._interval
        if wait > 0.0:
            await self._sleep(wait)

    def correct(self, amount: float) -> None:
        """Takes units that a call used beyond what it took before; gives back, where `amount` is negative."""
        self._next += amount * self._interval


class Pause:
    """A time before which no request is sent, set by an endpoint's `Retry-After`.

    A wait above `longest` seconds ends the run instead: `refuse` is told why.
    """

    def __init__(self, longest: float = math.inf, refuse: Callable[[str], None] = logger.warning):
        self._longest, self._refuse = longest, refuse
        self._until = 0.0
        self._ended = asyncio.Event()

    def extend(self, seconds: float, why: str = "") -> None:
        """No request within the next `seconds`; a wait above a minute is told: when it ends, and `why`."""
        if seconds > self._longest:
            self._refuse(f"{_asked(seconds, why)}, which is above --max-wait {self._longest:g}")
            return
        until = asyncio.get_running_loop().time() + seconds
        if seconds > LONG_PAUSE and until - self._until > LONG_PAUSE:
            logger.warning("%s; Ctrl-C stops", _asked(seconds, why))
        self._until = max(self._until, until)

    def end(self) -> None:
        """Wakes all that wait, for good: the run is ending."""
        self._ended.set()

    async def sleep(self, seconds: float) -> None:
        """Waits `seconds`, or until `end`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()

    async def over(self) -> None:
        """Waits until requests may be sent again, or until `end`."""
        while (wait := self._until - asyncio.get_running_loop().time()) > 0.0 and not self._ended.is_set():
            await self.sleep(wait)


def _asked(seconds: float, why: str) -> str:
    """How long a `Retry-After` is, and the local time when it ends, in words."""
    ends = datetime.datetime.now().astimezone() + datetime.timedelta(seconds=min(seconds, 1e9))
    clock = ends.strftime("%H:%M:%S" if seconds < 43_200 else "%Y-%m-%d %H:%M")
    reason = f": {why}" if why else ""
    return f"the endpoint asks to wait {seconds:,.0f} s, until {clock} (Retry-After{reason})"


class Spent(NamedTuple):
    """Requests, tokens of prompts and completions, and dollars; as a limit, None is no limit."""

    requests: float | None = 0
    tokens: float | None = 0
    usd: float | None = 0.0

    def plus(self, other: "Spent", sign: int = 1) -> "Spent":
        """The sum of both."""
        return Spent(*(one + sign * another for one, another in zip(self, other, strict=True)))

    def exceeds(self, limit: "Spent") -> str | None:
        """The name of a quantity that is over its limit."""
        for name, used, bound in zip(self._fields, self, limit, strict=True):
            if bound is not None and used > bound + 1e-12:
                return name
        return None


class Budget:
    """Spending that cannot exceed a limit: each call reserves the most it can cost before it is made.

    What earlier runs spent counts, so that resuming a run adds nothing to its budget.
    """

    def __init__(self, limit: Spent, spent: Spent):
        self.limit, self.spent = limit, spent
        self.exhausted: str | None = None  # the quantity that ran out
        self._reserved = Spent()
        self._changed = asyncio.Condition()

    async def reserve(self, most: Spent, wait: bool = True) -> bool:
        """Reserves `most`, after a `wait` while running calls may use less than they reserved; or False."""
        async with self._changed:
            while True:
                over = self.spent.plus(self._reserved).plus(most).exceeds(self.limit)
                if over is None:
                    self._reserved = self._reserved.plus(most)
                    return True
                if not wait or self._reserved == Spent() or self.spent.plus(most).exceeds(self.limit):
                    self.exhausted = over
                    return False
                await self._changed.wait()

    async def settle(self, most: Spent, actual: Spent) -> None:
        """Replaces a reservation by what the call used."""
        async with self._changed:
            left = self._reserved.plus(most, -1)
            self._reserved = Spent() if left.requests < 0.5 else left  # no rounding error is left over
            self.spent = self.spent.plus(actual)
            self._changed.notify_all()


class TokenEstimate:
    """Tokens of a prompt before it is sent; learns from what the endpoint reports afterwards."""

    def __init__(self):
        self._bytes = self._tokens = 0.0

    def prompt(self, size: int) -> int:
        """Tokens of a prompt of `size` bytes: a tenth more than the mean so far, to err on the high side."""
        if not self._tokens:
            return int(size / BYTES_PER_TOKEN) + 1
        return int(1.1 * size * self._tokens / self._bytes) + 1

    def at_most(self, size: int, answer_tokens: int, price: Price | None) -> Spent:
        """What one request with a prompt of `size` bytes can use at most."""
        tokens = self.prompt(size)
        return Spent(1, tokens + answer_tokens, price.of(tokens, answer_tokens) if price else 0.0)

    def learn(self, size: int, tokens: int) -> None:
        """Learns that a prompt of `size` bytes had `tokens` tokens."""
        self._bytes += size
        self._tokens += tokens


class CutPrompts:
    """Notices a server that cuts prompts: it counts the same tokens for prompts of very different length."""

    LIKENESS = 1.5  # how much longer than another a prompt of as many tokens may be
    SEEN = 3  # prompts of as many tokens before that is told

    def __init__(self):
        self._told, self._tokens, self._sizes = (
            False,
            0,
            (0, 0, 0),
        )  # the most tokens; shortest, longest, number

    def look(self, size: int, tokens: int) -> None:
        """Looks at a prompt of `size` bytes that counted as `tokens` tokens; warns once."""
        if tokens < self._tokens or self._told:
            return
        shortest, longest, number = self._sizes if tokens == self._tokens else (size, size, 0)
        self._tokens, self._sizes = tokens, (min(shortest, size), max(longest, size), number + 1)
        shortest, longest, number = self._sizes
        if number >= self.SEEN and longest > self.LIKENESS * shortest:
            self._told = True
            logger.warning(
                "the server counts %d tokens for prompts of %d to %d bytes: it seems to cut them; raise its "
                "context length (Ollama: num_ctx), or show fewer demonstrations (--shots)",
                *(tokens, shortest, longest),
            )
