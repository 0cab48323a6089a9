"""Contestants that are measured in turn, each in a process of its own, whose memory is its own.

A module that has contestants has a function `enter(job, name)`, which makes one: an `Entrant`. The job is a
dict that JSON can hold.
"""

import contextlib
import dataclasses
import importlib
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from benchmarks import measure, worker

_MARK = "answer: "  # begins a line that is not a library's


@dataclasses.dataclass
class Entrant:
    """A contestant that is ready.

    Attributes:
      work: does the whole work once, and returns its amount.
      warm_up: does so much of it that nothing is left to be compiled; what is told of it then.
      details: what is told of it at the end.
    """

    work: Callable[[], float]
    warm_up: Callable[[], dict]
    details: Callable[[], dict]


class Place(Protocol):
    """Where an entrant is; `ready` is what its `warm_up` told."""

    ready: dict

    def work(self) -> float:
        """As `Entrant.work`."""

    def close(self) -> dict:
        """Ends it; its details, with `peak_gib` where the process is its own."""


class Here:
    """An entrant in this process, for tests."""

    def __init__(self, module: str, job: dict, name: str):
        self._entrant = importlib.import_module(module).enter(job, name)
        self.ready = self._entrant.warm_up()
        self.work = self._entrant.work

    def close(self) -> dict:
        return self._entrant.details()


class Alone:
    """An entrant in a process of its own, which waits while the others work.

    Raises RuntimeError when it fails, with the last line of its errors.
    """

    def __init__(self, module: str, job: dict, name: str):
        self._errors = tempfile.TemporaryFile("w+")
        command = [sys.executable, "-m", "benchmarks.turns", module, name]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._errors, "text": True}
        self._name, self._process = name, subprocess.Popen(command, **pipes)
        self.ready = self._ask(json.dumps(job))

    def _ask(self, line: str) -> Any:
        with contextlib.suppress(BrokenPipeError):  # what it died of is told below
            print(line, file=self._process.stdin, flush=True)
        for answer in self._process.stdout:
            if answer.startswith(_MARK):
                return json.loads(answer.removeprefix(_MARK))
        self._process.wait()
        self._errors.seek(0)
        raise RuntimeError(f"{self._name}: {worker.last_line(self._errors.read(), self._process.returncode)}")

    def work(self) -> float:
        return self._ask("work")

    def close(self) -> dict:
        details = self._ask("end")
        self._process.communicate()
        return details


def measured(
    module: str,
    job: dict,
    names: Sequence[str],
    *,
    repeats: int,
    seconds: float = math.inf,
    check: Callable[[dict[str, dict]], None] = lambda ready: None,
    place: type[Place] = Alone,
) -> tuple[dict[str, list[float]], dict[str, dict]]:
    """(rates of each round, details) of the contestants of a module, by name; see `measure.in_turn`.

    Before the first round `check` gets what each told when it was ready, and may raise.
    """
    entrants: dict[str, Place] = {}
    for name in names:
        measure.tell(f"{name} starts")
        entrants[name] = place(module, job, name)
    check({name: each.ready for name, each in entrants.items()})
    works = {name: each.work for name, each in entrants.items()}
    rates = measure.in_turn(works, repeats, seconds=seconds, warm=False)
    return rates, {name: each.close() for name, each in entrants.items()}


def _main(module: str, name: str) -> None:
    entrant = importlib.import_module(module).enter(json.loads(sys.stdin.readline()), name)
    print(f"{_MARK}{json.dumps(entrant.warm_up())}", flush=True)
    for line in sys.stdin:
        found = (
            entrant.work() if line.strip() == "work" else entrant.details() | {"peak_gib": worker.peak_gib()}
        )
        print(f"{_MARK}{json.dumps(found)}", flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
