"""Measuring contestants in turn, and the summary of their rates."""

import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence


def tell(text: str) -> None:
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def in_turn(
    contestants: Mapping[str, Callable[[], float]],
    repeats: int,
    *,
    seconds: float = math.inf,
    warm: bool = True,
) -> dict[str, list[float]]:
    """Calls all contestants in turn.

    In turn, because a machine's speed drifts: what slows one slows the next as well. Each round starts with
    another one, so that none always follows the same.

    Args:
      contestants: each does its work and returns its amount, in units of its choice.
      repeats: rounds.
      seconds: a round after the first is only begun if it is likely to end in this time.
      warm: call each once before, unmeasured, which compiles it.

    Returns:
      Units per second, of each round.
    """
    for work in contestants.values() if warm else ():
        work()
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    names, started = list(contestants), time.perf_counter()
    for number in range(repeats):
        first = number % max(len(names), 1)
        for name in names[first:] + names[:first]:
            began = time.perf_counter()
            units = contestants[name]()
            rates[name].append(units / (time.perf_counter() - began))
        spent = time.perf_counter() - started
        tell(f"round {number + 1} of {repeats}: {spent:.0f} s")
        if spent / (number + 1) * (number + 2) > seconds:
            break
    return rates


def summary(values: Sequence[float] | None) -> dict[str, float | list[float]] | None:
    """Median, spread ((max - min) / median) and the values themselves; None for what is not installed.

    Raises:
      ValueError: for no values, or one that is not finite.
    """
    if values is None:
        return None
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(f"not measurements: {values}")
    median = statistics.median(values)
    return {
        "median": _short(median),
        "spread": _short((max(values) - min(values)) / median),
        "values": [_short(value) for value in values],
    }


def ratio(ours: Mapping | None, peer: Mapping | None) -> float | None:
    """How many times as fast as the peer, by the medians; None where one is not installed."""
    return None if ours is None or peer is None else _short(ours["median"] / peer["median"])


def _short(value: float) -> float:
    return float(f"{value:.4g}")
