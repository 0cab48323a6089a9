"""Whether a run's checkpoints are as they were written, and what is done where they are not."""

import logging
import pathlib
import shutil

from distill_jax import checksums, files
from distill_jax.checkpoints.layout import DAMAGED, STATE, checkpoints_of
from distill_jax.checkpoints.orbax import ADVICE, step_folders
from distill_jax.checkpoints.orbax_trees import is_tree
from distill_jax.errors import UserError

log = logging.getLogger("distill_jax")


def damage(model_dir: str, step: int, verify: bool = True) -> list[str]:
    """What is damaged of a checkpoint, `FILE (how)`; without `verify` only whether it has a state at all."""
    folder = checkpoints_of(model_dir) / str(step)
    if verify and (faults := checksums.damaged(folder)):
        return faults
    return [] if is_tree(folder / STATE) else [f"{STATE} (missing)"]


def require_whole(model_dir: str, step: int) -> None:
    """Compares a checkpoint with its checksums; a warning says that one of before there were any has none.

    Raises UserError when it is damaged: names the file, and the steps that are not.
    """
    folder = checkpoints_of(model_dir) / str(step)
    if faults := damage(model_dir, step):
        good = [other for other in step_folders(model_dir) if other != step and not damage(model_dir, other)]
        others = f"the steps {good} are whole: take one of them (--step, or {folder.parent}/STEP)"
        others = others if good else "no other step is whole: take a copy of the run, or train it anew"
        raise UserError(f"{folder / faults[0]}: the checkpoint is damaged; {others}")
    _warn_of_none(folder)


def set_aside_damaged(model_dir: str, verify: bool = True) -> None:
    """Moves the damaged checkpoints after the latest whole one to `damaged/`; a warning names both.

    Without `verify` only those are damaged that have no state. Raises UserError when there are checkpoints, and
    none is whole.
    """
    folder, aside = checkpoints_of(model_dir), pathlib.Path(model_dir) / DAMAGED
    faults: dict[int, str] = {}
    for step in reversed(step_folders(model_dir)):
        if not (found := damage(model_dir, step, verify)):
            break
        faults[step] = found[0]
    else:
        if faults:
            listed = ", ".join(f"{step}/{fault}" for step, fault in faults.items())
            raise UserError(
                f"{folder}: every checkpoint is damaged: {listed}: delete this folder to start anew"
            )
        return
    if verify:
        _warn_of_none(folder / str(step))
    for later, fault in faults.items():
        with files.disk_errors(aside, ADVICE):
            aside.mkdir(exist_ok=True)
            shutil.rmtree(aside / str(later), ignore_errors=True)
            (folder / str(later)).rename(aside / str(later))
        text = "warning: checkpoint %d is damaged, %s: the run goes back to that of step %d; it is in %s now"
        log.warning(text, later, fault, step, aside / str(later))


def _warn_of_none(folder: pathlib.Path) -> None:
    if not checksums.exist(folder):
        log.warning("warning: %s: has no checksums: damage to it would not be noticed", folder)
