"""What the cells of a sweep read, looked at before the first of them runs."""

import os
from collections.abc import Iterable, Iterator

from distill_jax.checkpoints.remote import is_remote
from distill_jax.config import DataOptions, TrainConfig
from distill_jax.errors import UserError
from distill_jax.experiments.sweep.grid import Cell
from distill_jax.tasks.resolve import resolve

CHECKPOINTS = ("initial_checkpoint_path", "teacher_checkpoint_path", "vocabulary")


def check(file: str, cells: Iterable[Cell]) -> None:
    """Reads the first row of each split of all data there is, and looks for checkpoints on this machine.

    Each task, file and checkpoint is looked at once, however many cells share it. What is behind a URL is left
    to the cells.

    Raises:
      UserError: a line for each that cannot be read; `file` is the sweep's.
    """
    problems = dict.fromkeys(problem for config in _distinct(cells) for problem in _problems(config))
    if problems:
        lines = "".join(f"\n  {problem}" for problem in problems)
        raise UserError(f"{file}: nothing was run, as these cannot be read:{lines}")


def _distinct(cells: Iterable[Cell]) -> Iterator[TrainConfig]:
    """A configuration for each combination of data and checkpoints."""
    seen = set()
    for cell in cells:
        for values in cell.points():
            config = cell.config(**values)
            key = tuple(str(getattr(config, name)) for name in (*DataOptions.options(), *CHECKPOINTS))
            if key not in seen:
                seen.add(key)
                yield config


def _problems(config: TrainConfig) -> Iterator[str]:
    try:
        config.require_files()
        task = resolve(config).task
        for split in ("train", "validation", "test"):
            next(task.source.examples(split), None)
    except UserError as error:
        yield str(error)
    for name in CHECKPOINTS:
        value = getattr(config, name) or "none"
        if value in ("none", "bytes") or value.startswith("train:") or is_remote(value):
            continue
        if not os.path.exists(value):
            yield f"{config.named(name)} {value}: no such file or folder"
