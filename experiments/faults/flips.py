"""Changed bits in a checkpoint and in prepared records: each has to be noticed before they are used."""

import pathlib
import random
from collections.abc import Callable, Mapping
from typing import Any

from distill_jax import checksums
from distill_jax.checkpoints import whole
from distill_jax.checkpoints.layout import checkpoints_of
from distill_jax.experiments.faults.bench import STEPS, Bench


def flip(folder: pathlib.Path, count: int, is_noticed: Callable[[], bool]) -> dict[str, int]:
    """Changes a random bit of each file of a folder in turn, `count` times, and back; what was not noticed."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    chance, unnoticed = random.Random(0), 0
    for number in range(count):
        path = paths[number % len(paths)]
        content = path.read_bytes()
        place, bit = chance.randrange(len(content)), chance.randrange(8)
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
        unnoticed += not is_noticed()
        path.write_bytes(content)
    if is_noticed():
        raise AssertionError(f"{folder} counts as damaged when nothing in it is changed")
    return {"injected": count, "files": len(paths), "unnoticed": unnoticed}


def cases(bench: Bench, count: int) -> Mapping[str, Callable[[], dict[str, Any]]]:
    """Flips in a checkpoint, and as many in prepared records."""
    run, cache = str(bench.base / "run"), bench.base / "cache"
    [rows] = (path.parent for path in cache.rglob("rows.array_record"))
    return {
        "checkpoint": lambda: flip(
            checkpoints_of(run) / str(STEPS), count, lambda: bool(whole.damage(run, STEPS))
        ),
        "prepared records": lambda: flip(rows, count, lambda: bool(checksums.damaged(rows))),
    }
