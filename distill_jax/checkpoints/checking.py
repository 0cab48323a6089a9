"""All files of a run's folder, checked one after the other."""

import dataclasses
import pathlib
from collections.abc import Callable

from distill_jax import checksums, files
from distill_jax.checkpoints import orbax, run_dir, whole
from distill_jax.checkpoints.layout import CHECKPOINTS, CONFIG, DATA, METRICS, RUN, SCORES, checkpoints_of
from distill_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Checked:
    """What was found of a file, or of a checkpoint: what it is, or the fault that it has."""

    name: str
    words: str
    is_damaged: bool = False


def check_run(model_dir: str) -> list[Checked]:
    """Reads the files of a run, and compares its checkpoints with their checksums.

    Raises UserError where there is no run.
    """
    run_dir.require_run(model_dir)
    readers: dict[str, Callable[[], str]] = {
        RUN: lambda: run_dir.load(model_dir) and "whole",
        CONFIG: lambda: "none" if run_dir.read_config(model_dir) is None else "whole",
        DATA: lambda: "none" if run_dir.read_data(model_dir) is None else "whole",
        "vocabulary": lambda: _vocabulary(model_dir),
        SCORES: lambda: orbax.load_scores(model_dir) and "whole",
        METRICS: lambda: _lines(pathlib.Path(model_dir) / METRICS),
    }
    steps = {f"{CHECKPOINTS}/{step}": step for step in orbax.step_folders(model_dir)}
    return [
        *(_read(*reader) for reader in readers.items()),
        *(_step(model_dir, *step) for step in steps.items()),
    ]


def _read(name: str, read: Callable[[], str]) -> Checked:
    try:
        return Checked(name, read())
    except UserError as error:
        return Checked(name, str(error), True)


def _vocabulary(model_dir: str) -> str:
    run = run_dir.load(model_dir)
    if not run.vocabulary:  # converted from a checkpoint that had none
        return "none"
    run_dir.vocabulary_of(model_dir, run)
    return "whole"


def _lines(path: pathlib.Path) -> str:
    if not path.exists():
        return "none"
    rows, bad = files.json_lines(path, "step")
    if bad:
        raise UserError(f"the lines {bad} are cut short or damaged: the next training drops them")
    return f"{len(rows)} lines"


def _step(model_dir: str, name: str, step: int) -> Checked:
    folder = checkpoints_of(model_dir) / str(step)
    if faults := whole.damage(model_dir, step):
        return Checked(name, ", ".join(faults), True)
    if not checksums.exist(folder):
        return Checked(name, "no checksums: damage would not be noticed")
    return Checked(name, f"{checksums.count(folder)} files are whole")
