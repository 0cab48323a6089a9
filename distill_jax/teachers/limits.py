"""What a run may take: requests and tokens a minute, and a budget in requests, tokens or money."""

import asyncio
import dataclasses
import pathlib
import re
from collections.abc import Mapping

import yaml

from distill_jax.errors import UserError

BYTES_PER_TOKEN = 3.0  # of a prompt, before an endpoint has told: on the safe side for English
_VERSION = r"(-\d[\d-]*|-latest)?"


class Pace:
    """At most so many units a minute, evenly spaced, in the order of asking.

    The generic cell rate algorithm (virtual scheduling). Unlike a bucket that starts full, it never lets
    a minute's share through in a burst: in no window of a minute more than the rate and one second's share.
    """

    def __init__(self, per_minute: float | None):
        self._interval = 0.0 if per_minute is None else 60.0 / per_minute
        self._next = 0.0

    async def take(self, amount: float = 1.0) -> None:
        """Waits until `amount` units may pass."""
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now - 1.0)
        wait = self._next - now
        self._next += amount * self._interval
        if wait > 0.0:
            await asyncio.sleep(wait)

    def correct(self, amount: float) -> None:
        """Takes (or, below 0, gives back) units that turned out to be needed (or not)."""
        self._next += amount * self._interval


class Pause:
    """A moment before which nobody may ask, set by an endpoint's `Retry-After`."""

    def __init__(self):
        self._until = 0.0

    def extend(self, seconds: float) -> None:
        """No request within the next `seconds`."""
        self._until = max(self._until, asyncio.get_running_loop().time() + seconds)

    async def over(self) -> None:
        """Waits for the end of it."""
        while (wait := self._until - asyncio.get_running_loop().time()) > 0.0:
            await asyncio.sleep(wait)


@dataclasses.dataclass(frozen=True)
class Spent:
    """Requests, tokens of prompts and completions, and dollars; a limit of None is none."""

    requests: float | None = 0
    tokens: float | None = 0
    usd: float | None = 0.0

    def plus(self, other: "Spent", sign: int = 1) -> "Spent":
        """The sum of both."""
        return Spent(
            self.requests + sign * other.requests,
            self.tokens + sign * other.tokens,
            self.usd + sign * other.usd,
        )

    def exceeds(self, limit: "Spent") -> str | None:
        """The name of a quantity that is over its limit."""
        for field in dataclasses.fields(self):
            bound = getattr(limit, field.name)
            if bound is not None and getattr(self, field.name) > bound + 1e-12:
                return field.name
        return None


class Budget:
    """Spending that cannot pass a limit: each call reserves the most it can cost before it is made.

    Args:
      limit: None in a field for no limit.
      spent: by earlier runs.
    """

    def __init__(self, limit: Spent, spent: Spent):
        self.limit, self.spent = limit, spent
        self.exhausted: str | None = None  # the quantity that ran out
        self._reserved = Spent()
        self._changed = asyncio.Condition()

    async def reserve(self, most: Spent, wait: bool = True) -> bool:
        """Waits, if it may, while running calls may yet leave enough; False when they cannot."""
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
        """Replaces a reservation by what was spent."""
        async with self._changed:
            left = self._reserved.plus(most, -1)
            self._reserved = Spent() if left.requests < 0.5 else left  # no float dust without calls
            self.spent = self.spent.plus(actual)
            self._changed.notify_all()


@dataclasses.dataclass(frozen=True)
class Price:
    """Dollars per million tokens; `share` is 0.5 for batches at half price."""

    prompt: float
    completion: float
    share: float = 1.0

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Dollars."""
        return self.share * (self.prompt * prompt_tokens + self.completion * completion_tokens) / 1e6


def parse_price(text: str) -> Price:
    """Reads `0.15,0.60`.

    Raises:
      UserError: for anything else.
    """
    try:
        prompt, completion = (float(part) for part in text.split(","))
    except ValueError:
        prompt = completion = -1.0
    if not (0.0 <= prompt < 1e6 and 0.0 <= completion < 1e6):
        raise UserError(f"--price: expected PROMPT,COMPLETION in dollars per million tokens, got {text!r}")
    return Price(prompt, completion)


def price_of(model: str, table: str | None = None) -> Price | None:
    """The price of a model, whose name may have a date or `-latest` behind it; None where it is not listed.

    Args:
      model: as the endpoint calls it.
      table: a YAML file of `name: [prompt, completion]`; None for the shipped one.

    Raises:
      UserError: for a file that cannot be read.
    """
    path = pathlib.Path(table) if table else pathlib.Path(__file__).parent / "prices.yaml"
    try:
        prices = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: invalid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(prices, Mapping):
        raise UserError(f"{path}: expected lines such as `gpt-4o-mini: [0.15, 0.60]`")
    name = next((n for n in prices if re.fullmatch(f"{re.escape(str(n))}{_VERSION}", model)), None)
    if name is None:
        return None
    try:
        return parse_price(",".join(str(part) for part in prices[name]))
    except TypeError:
        raise UserError(f"{path}: {name}: expected [prompt, completion]") from None


class TokenEstimate:
    """Tokens of a prompt before it is sent; learns from what the endpoint says afterwards."""

    def __init__(self):
        self._bytes = self._tokens = 0.0

    def prompt(self, size: int) -> int:
        """Tokens of a prompt of `size` bytes: a tenth more than the mean so far, to be on the safe side."""
        if not self._tokens:
            return int(size / BYTES_PER_TOKEN) + 1
        return int(1.1 * size * self._tokens / self._bytes) + 1

    def learn(self, size: int, tokens: int) -> None:
        """A prompt of `size` bytes had so many tokens."""
        self._bytes += size
        self._tokens += tokens
