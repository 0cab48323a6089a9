"""One reader, fed for some seconds in a process of its own: its faults, and the time and memory it took."""

import base64
import contextlib
import dataclasses
import importlib.util
import json
import logging
import os
import pathlib
import resource
import signal
import time
import traceback
from collections.abc import Iterator
from typing import Any

from distill_jax.errors import UserError
from distill_jax.experiments.fuzz import checkpoints, rows, settings
from distill_jax.experiments.fuzz.main import KEPT, MEMORY, SECONDS
from distill_jax.experiments.fuzz.mutations import Mutator
from distill_jax.experiments.fuzz.target import Target

TARGETS: dict[str, Target] = {**rows.TARGETS, **settings.TARGETS, **checkpoints.TARGETS}
LIMIT = 8 << 30  # bytes that the process may take: the machine is shared


class Slow(BaseException):
    """An input took longer than `SECONDS`."""


@dataclasses.dataclass
class Figures:
    """What was seen of a reader; seconds and megabytes (the most that it took) are of all inputs together."""

    inputs: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    megabytes: float = 0.0
    faults: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    def ring(number: int, frame: Any) -> None:
        raise Slow(f"more than {SECONDS:g} s")

    # By the processor's time, which other processes do not change; who sleeps is found by `main`.
    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10  # Linux counts kilobytes


def fault(target: Target, folder: pathlib.Path, content: bytes) -> tuple[str, str] | None:
    """Has the reader read an input: (place, words) of a fault; None where it was read or well refused.

    An error of ours is a fault too where it has several lines, or names neither the file nor its folder.
    """
    path = folder / target.file
    path.write_bytes(content)
    before = _memory()
    try:
        with _alarm():
            target.read(path)
    except UserError as error:
        text = str(error)
        if "\n" in text:
            return "several lines", text
        if target.named and not any(name in text for name in (path.name, str(folder))):
            return "no file named", text
    except (Exception, Slow) as error:
        places = [each for each in traceback.extract_tb(error.__traceback__) if "/lib/" not in each.filename]
        ours = [each for each in places if "/fuzz/" not in each.filename] or places
        place = f"{pathlib.Path(ours[-1].filename).name}, {ours[-1].name}" if ours else "the experiments"
        return f"{type(error).__name__} in {place}", " ".join(str(error).split())
    if (more := _memory() - before) > MEMORY:
        return "memory", f"{more >> 20} MB"
    return None


class Feeder:
    """Feeds a reader by its name in `TARGETS`, in a folder of its own; `folder` gets what is found.

    The input that is being read is in its file `input`, for when the process dies of it.
    """

    def __init__(self, name: str, folder: pathlib.Path, number: int = 0):
        self.target, self.figures = TARGETS[name], Figures()
        self._out, self._folder = folder, folder / "files"
        self._folder.mkdir(parents=True)
        self.seeds = self.target.start(self._folder)
        for seed in self.seeds:
            (self._folder / self.target.file).write_bytes(seed)
            self.target.read(self._folder / self.target.file)  # a whole input is read, or the target is none
        self.mutator = Mutator(self.seeds, self.target.form, number)
        self._begin, self._memory = time.monotonic(), _memory()

    @property
    def seconds(self) -> float:
        """Since the first input."""
        return time.monotonic() - self._begin

    def feed(self, content: bytes) -> None:
        """Has an input read, and notes the fault of it, if any."""
        now, figures = time.monotonic(), self.figures
        (self._out / "input").write_bytes(content)
        found = fault(self.target, self._folder, content)
        figures.inputs += 1
        figures.slowest = round(max(figures.slowest, time.monotonic() - now), 3)
        if found:
            sample = base64.b64encode(content[:KEPT]).decode()
            kept = figures.faults.setdefault(found[0], {"words": found[1][:300], "input": sample, "times": 0})
            kept["times"] += 1

    def write(self) -> None:
        """Writes `figures.json`."""
        self.figures.seconds = round(self.seconds, 1)
        self.figures.megabytes = round((_memory() - self._memory) / 1e6, 1)
        (self._out / "figures.json").write_text(json.dumps(dataclasses.asdict(self.figures)))


def run(name: str, seconds: float, number: int, folder: pathlib.Path) -> None:
    """Feeds a reader for some seconds, by atheris where it is installed; its process ends with that."""
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    feeder = Feeder(name, folder, number)
    if importlib.util.find_spec("atheris"):
        _by_atheris(feeder, seconds, number, folder / "corpus")
    while feeder.seconds < seconds:
        feeder.feed(feeder.mutator.make())
    feeder.write()


def _by_atheris(feeder: Feeder, seconds: float, number: int, corpus: pathlib.Path) -> None:
    """Half of the inputs are changed as ours are, half as libFuzzer does, which never returns."""
    import atheris

    corpus.mkdir()
    for place, seed in enumerate(feeder.seeds):
        (corpus / str(place)).write_bytes(seed)

    def one(content: bytes) -> None:
        if feeder.seconds > seconds:
            feeder.write()
            os._exit(0)
        feeder.feed(content)

    def change(content: bytes, most: int, seed: int) -> bytes:
        return feeder.mutator.make(content)[:most] if seed % 2 else atheris.Mutate(content, most)

    longest = max(1 << 16, 4 * max(map(len, feeder.seeds)))
    flags = [f"-seed={number + 1}", f"-max_len={longest}", "-rss_limit_mb=0", "-timeout=600", "-verbosity=0"]
    flags.append(f"-artifact_prefix={corpus.parent}/")
    atheris.Setup(["fuzz", *flags, str(corpus)], one, custom_mutator=change)
    atheris.Fuzz()
