"""A long training with checkpoints, validations and a `kill -9` half-way: are memory and step time flat?"""

import json
import pathlib
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from distill_jax.checkpoints.layout import METRICS
from distill_jax.experiments.faults.bench import Bench
from distill_jax.experiments.faults.commands import Command

LINES = 200  # of metrics
SAVES, VALIDATIONS = 200, 100  # so many that what one of them leaves is seen
SETTLED = 0.2  # of the steps of a process; memory and time are judged after them


def _last_step(path: pathlib.Path) -> int:
    """The step of the last whole line of metrics; 0 before there is one."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = [line for line in file.read().split(b"\n")[:-1] if line.startswith(b'{"step"')]
    return json.loads(lines[-1])["step"] if lines else 0


def _watch(process: Command, path: pathlib.Path, until: int | None) -> list[tuple[int, float]]:
    """(step, MiB) about twice a second, to the end of the process, or to a step at which it is killed."""
    samples: list[tuple[int, float]] = []
    while process.wait(0.5) is None:
        step = _last_step(path)
        samples.append((step, process.resident()))
        if until is not None and step >= until:
            process.signal(signal.SIGKILL)
    return samples


def slope(samples: list[tuple[int, float]]) -> dict[str, float]:
    """The regression of values on steps, after the first fifth of these: per 10,000 steps, and the mean."""
    steps, values = np.array(samples, np.float64).T
    settled = steps >= steps.min() + SETTLED * (steps.max() - steps.min())
    gradient = np.polyfit(steps[settled], values[settled], 1)[0]
    return {"mean": float(values[settled].mean()), "per_10000_steps": float(1e4 * gradient)}


def train(bench: Bench, steps: int) -> dict[str, Any]:
    """Trains so many steps in two processes."""
    place = bench.fresh("train", "long")
    words = bench.words("train", place, steps=steps)
    period = {"LOG_PERIOD": steps // LINES, "CHECKPOINT_PERIOD": steps // SAVES}
    period |= {"EVAL_PERIOD": steps // VALIDATIONS, "EVAL_EXAMPLES": 16}
    words += [f"--gin.{name}={value}" for name, value in period.items()]
    path, began, memory = place / "run" / METRICS, time.monotonic(), []
    for until in (steps // 2 + steps // SAVES // 2, None):
        with bench.start(words, place) as process:
            memory.append(_watch(process, path, until))
            outcome = process.wait()
        if until is None and (outcome.status or outcome.fault()):
            raise SystemExit(f"error: the run ended with {outcome.status}: {outcome.err}")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    seconds = [
        (row["step"], 1000 * row["train/device_seconds"] / period["LOG_PERIOD"])
        for row in lines
        if "train/device_seconds" in row
    ]
    counts = {"steps": steps, "lines": len(seconds), "saves": SAVES, "validations": len(lines) - len(seconds)}
    return {
        **counts,
        "seconds": round(time.monotonic() - began),
        "memory_mib": [slope(samples) for samples in memory],
        "step_ms": slope(seconds),
    }


def cases(bench: Bench, count: int) -> Mapping[str, Callable[[], dict[str, Any]]]:
    """One run of `count` steps."""
    return {"train": lambda: train(bench, count)}
