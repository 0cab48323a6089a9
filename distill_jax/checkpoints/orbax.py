"""Orbax checkpoints of a run, one folder per step, and the validation scores that say which is the best."""

import dataclasses
import json
import logging
import math
import os
import pathlib
from collections.abc import Collection, Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import path as ocp_path
from orbax.checkpoint.checkpoint_managers import preservation_policy

from distill_jax import checksums, files
from distill_jax.checkpoints.layout import LOADER, SCORES, STATE, checkpoints_of
from distill_jax.checkpoints.orbax_trees import BEGINNING, is_tree, read_tree
from distill_jax.checkpoints.other_formats.parameters import to_arrays
from distill_jax.checkpoints.stores import reason
from distill_jax.config import TrainConfig
from distill_jax.config.json_types import require_known
from distill_jax.errors import UserError, words_of

ADVICE = f"choose another {TrainConfig.named('model_dir')}; a run resumes from its last complete checkpoint"
_LATE = ("_CHECKPOINT_METADATA", "commit_success.txt")  # Orbax writes them when it gives a step its name
logger = logging.getLogger(__name__)


@dataclasses.dataclass
class Scores:
    """Validation scores of a run's checkpoints, as `scores.json` in its folder holds them.

    Attributes:
      metric: whose values they are; None before the first validation.
      by_step: the score of each validated checkpoint, larger is better; None where the validation gave none.
    """

    metric: str | None = None
    by_step: dict[int, float | None] = dataclasses.field(default_factory=dict)

    def best(self, steps: Collection[int], count: int = 1) -> list[int]:
        """The `count` best of some steps, the best last; of equal ones the later is better."""
        ranked = [step for step in sorted(steps) if self.by_step.get(step) is not None]
        ranked.sort(key=self.by_step.__getitem__)
        return ranked[max(len(ranked) - count, 0) :]

    def to_json(self) -> str:
        """The content of `scores.json`."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, path: str | os.PathLike) -> "Scores":
        """Raises UserError, naming `path`, when `text` is none of `to_json`."""
        try:
            fields = json.loads(text)
            require_known(fields, {"metric": str | None, "by_step": dict[str, float | None]})
            return cls(fields.get("metric"), {int(step): score for step, score in fields["by_step"].items()})
        except (ValueError, RecursionError, UserError) as error:
            raise UserError(
                f"{path}: no validation scores of a run: {words_of(error)}: delete this file"
            ) from None


def load_scores(model_dir: str) -> Scores:
    """The validation scores of a run, none where it has no file of them; UserError when that is damaged."""
    path = pathlib.Path(model_dir) / SCORES
    return Scores.from_json(path.read_bytes(), path) if path.exists() else Scores()


class _KeepBest(preservation_policy.PreservationPolicy):
    """Orbax's own best-of policy knows only scores that were given with the save, and ours come after it."""

    def __init__(self, scores: Scores, count: int):
        self._scores, self._count = scores, count

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        best = self._scores.best([checkpoint.step for checkpoint in checkpoints], self._count)
        return [checkpoint.step in best for checkpoint in checkpoints]


class _Checksummed(ocp_path.atomicity.AtomicRenameTemporaryPath):
    """Orbax's folder of a step, or of an item of it, until it has its name: a step gets checksums before."""

    async def finalize(self) -> None:
        is_step = self.get_final().name.isdecimal()
        if is_step:
            checksums.write(pathlib.Path(self.get()), leave_out=_LATE)
        await super().finalize()
        if is_step:
            checksums.write(pathlib.Path(self.get_final()))


class Checkpointer:
    """Saves asynchronously; keeps the last `keep` checkpoints and the `keep_best` best by a validation score.

    `keep` None keeps all. A checkpoint is saved before it is validated, so that a process that is stopped
    meanwhile loses neither; its scores are recorded afterwards, in `scores.json`, and outlive the process.
    """

    def __init__(self, model_dir: str, *, keep: int | None, keep_best: int):
        self._model_dir = model_dir
        self._scores = load_scores(model_dir)
        policies = [preservation_policy.LatestN(keep), _KeepBest(self._scores, keep_best)]
        policy = None if keep is None else preservation_policy.AnyPreservationPolicy(policies)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy, cleanup_tmp_directories=True, temporary_path_class=_Checksummed
        )
        try:
            self._manager = ocp.CheckpointManager(checkpoints_of(model_dir), options=options)
        except (ValueError, TypeError, KeyError) as error:  # of the metadata of one of the checkpoints
            raise UserError(
                f"{checkpoints_of(model_dir)}: a checkpoint in there is damaged ({words_of(error):.200}): "
                f"distill-jax check {model_dir} says which: delete it"
            ) from error

    def save(self, state: Any, loader_state: dict[str, Any]) -> None:
        """Starts to save; returns once the state is copied and may be donated again.

        Args:
          state: a tree of arrays with `step`, int32 [].
          loader_state: the place in the data, JSON.

        Raises:
          UserError: when this or an earlier save found the disk full.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        items = {STATE: ocp.args.StandardSave(state), LOADER: ocp.args.JsonSave(loader_state)}
        with files.disk_errors(self._manager.directory, ADVICE), BEGINNING:
            self._manager.save(step, args=ocp.args.Composite(**items))

    def record(self, step: int, best_by: tuple[str, float] | None) -> None:
        """Notes the validation score of the checkpoint of `step`; to be called in every process.

        `best_by` is the metric's name and its score, larger is better, as from `DistillationTask.best_by`.
        Scores of another metric than before start anew.
        """
        name, score = best_by or (self._scores.metric, None)
        if score is None or not math.isfinite(score):
            logger.warning("step %d cannot be the best checkpoint: its validation gave %s", step, score)
            score = None
        if self._scores.metric not in (None, name):
            self._scores.by_step.clear()
        self._scores.metric = name
        self._scores.by_step[step] = score
        if jax.process_index() == 0:
            files.write_text(pathlib.Path(self._model_dir) / SCORES, self._scores.to_json())

    def is_validated(self, step: int) -> bool:
        """Whether `record` was called for `step`, in this process or one before it."""
        return step in self._scores.by_step

    def restore(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """The latest checkpoint in `like`'s shapes and shardings, and the place in the data; None without any.

        Raises UserError when the latest is not whole.
        """
        if self._manager.latest_step() is None:
            return None
        step = pick_step(self._model_dir)
        items = {STATE: ocp.args.StandardRestore(like), LOADER: ocp.args.JsonRestore()}
        try:
            restored = self._manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # Orbax's parts have many kinds
            cause = reason(error)[:200] or type(error).__name__
            raise UserError(
                f"{self._manager.directory / str(step)}: cannot be restored: delete this folder to resume from "
                f"the checkpoint before it ({cause})"
            ) from error
        for later in [scored for scored in self._scores.by_step if scored > step]:
            del self._scores.by_step[later]  # of steps that were lost, and are done again
        return restored[STATE], restored[LOADER]

    def wait(self) -> None:
        """Waits for what is being saved; raises UserError when it found the disk full."""
        with files.disk_errors(self._manager.directory, ADVICE):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for what is being saved, and lets go of the folder."""
        with files.disk_errors(self._manager.directory, ADVICE):
            self._manager.close()


def step_folders(model_dir: str) -> list[int]:
    """The steps of all checkpoints of a run, whole or not, in order."""
    folder = checkpoints_of(model_dir)
    return sorted(ocp.utils.checkpoint_steps(folder)) if folder.exists() else []


def _complete(model_dir: str) -> list[int]:
    return [step for step in step_folders(model_dir) if is_tree(checkpoints_of(model_dir) / str(step) / STATE)]


def steps(model_dir: str) -> list[int]:
    """The steps of all complete checkpoints of a run, in order; raises UserError when there are none."""
    complete = _complete(model_dir)
    if not complete:
        folder = checkpoints_of(model_dir)
        raise UserError(f"{folder}: no complete checkpoint in there: train first, or check the folder")
    return complete


def latest_step(model_dir: str) -> int | None:
    """The step of the latest complete checkpoint; None where there is none yet."""
    return max(_complete(model_dir), default=None)


def pick_step(model_dir: str, step: int | str | None = "latest") -> int:
    """The step of a run's checkpoint: `latest` (or None), `best` by the validation scores, or a number.

    Raises UserError when there is no such checkpoint, or the latest is not whole.
    """
    complete = steps(model_dir)
    if step is None or step == "latest":
        broken = [number for number in step_folders(model_dir) if number > complete[-1]]
        if broken:
            raise UserError(
                f"{checkpoints_of(model_dir) / str(broken[-1])}: not a whole checkpoint, it has no state: "
                f"delete this folder to go back to step {complete[-1]}"
            )
        return complete[-1]
    if step == "best":
        best = load_scores(model_dir).best(complete)
        if not best:
            raise UserError(
                f"{model_dir}: no checkpoint has a validation score, so that none is the best: choose latest "
                f"or one of {complete}"
            )
        return best[-1]
    try:
        return numbered(model_dir, complete, int(step))
    except (TypeError, ValueError):
        raise UserError(f"checkpoint step {step!r}: expected latest, best or a number") from None


def score(model_dir: str, step: int) -> tuple[str, float] | None:
    """(metric, score) of a checkpoint's validation, larger is better; None where there was none."""
    scores = load_scores(model_dir)
    value = scores.by_step.get(step)
    return None if value is None or scores.metric is None else (scores.metric, value)


def numbered(where: str, existing: Collection[int], step: int | str) -> int:
    """The number of the `step` of a checkpoint; raises UserError when it is none of the `existing`."""
    if not str(step).isdecimal() or int(step) not in existing:
        raise UserError(f"{where}: no checkpoint of step {step}; there are {sorted(existing)}")
    return int(step)


def restore_params(model_dir: str, step: int | str | None = "latest") -> Any:
    """The parameters of the checkpoint that `pick_step` gives: a tree of float32 arrays on the first device.

    Raises UserError when there is no such checkpoint, or it is not whole.
    """
    folder = checkpoints_of(model_dir) / str(pick_step(model_dir, step)) / STATE
    return to_arrays(read_tree(folder, "params"))
