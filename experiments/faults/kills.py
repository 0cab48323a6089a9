"""`kill -9` at random moments of each command; then the same command again, and a look at what it made."""

import collections
import random
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from distill_jax.experiments.faults.bench import MADE, Bench, Results
from distill_jax.experiments.faults.teacher import teacher

IN_A_ROW = 3  # kills of the same files before the command may end
EARLIEST = 0.3  # of the time that it takes; before that it has written nothing
REFUSES = ("convert",)  # what does not write to a folder that is there
COMMANDS = ("prepare", "train", "eval", "infer", "convert", "annotate")


def compare(made: Results, expected: Results) -> dict[str, int]:
    """How many things are missing of what is expected, and how many are there too often, or others."""
    found, wanted = collections.Counter(made.values()), collections.Counter(expected.values())
    return {"lost": (wanted - found).total(), "more": (found - wanted).total()}


def kill(bench: Bench, command: str, count: int) -> dict[str, Any]:
    """Kills a command so many times."""
    chance, total = random.Random(command), collections.Counter()

    for _ in range(2):  # the first compiles
        place = bench.fresh(command, "undisturbed")
        began = time.monotonic()
        outcome, expected = bench.run_at(command, place)
        if outcome.status:
            raise SystemExit(f"error: {command} fails before it is killed: {outcome.err}")
        seconds = time.monotonic() - began
    while total["injected"] < count:
        place = bench.fresh(command, "killed")
        for _ in range(min(IN_A_ROW, count - total["injected"])):
            with bench.start(bench.words(command, place), place) as process:
                if process.wait(chance.uniform(EARLIEST, 1.0) * seconds) is not None:
                    break  # it was faster
                process.signal(signal.SIGKILL)
                total["injected"] += process.wait().status == -signal.SIGKILL
        outcome, made = bench.run_at(command, place)
        total["ended"] += 1
        if outcome.status and command in REFUSES and "is there already" in outcome.err:
            made = MADE[command](place)  # its folder had its name before the kill, so it must be whole
        else:
            total["failed"] += bool(outcome.status or outcome.fault())
        total["different"] += made != expected
        total["partial"] += len([path for path in place.rglob("*.partial")])
        total.update(compare(made, expected))
    names = ("injected", "ended", "failed", "different", "lost", "more", "partial")
    return {name: total[name] for name in names} | {"seconds": round(seconds, 2)}


def cases(bench: Bench, count: int) -> Mapping[str, Callable[[], dict[str, Any]]]:
    """Of each command `count` kills."""

    def one(command: str) -> dict[str, Any]:
        with teacher() as bench.teacher:
            return kill(bench, command, count)

    return {command: lambda command=command: one(command) for command in COMMANDS}
