"""Orbax checkpoints of a run: train state, loader position and metrics, one folder a step."""

import contextlib
import errno
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from distill_jax.errors import UserError
from distill_jax.training.train_state import TrainState


def _folder(model_dir: str) -> pathlib.Path:
    return pathlib.Path(model_dir).absolute() / "checkpoints"


class Checkpointer:
    """Saves asynchronously; keeps the last `keep` checkpoints and the `keep_best` best by a metric.

    Args:
      model_dir: the run's folder.
      keep: how many of the latest to keep; None keeps all.
      keep_best: how many of the best by `metric` to keep beside those.
      metric: name of a metric given to `save`; larger is better.
    """

    def __init__(self, model_dir: str, *, keep: int | None, keep_best: int, metric: str):
        policy = None
        if keep is not None:
            policy = preservation_policy.AnyPreservationPolicy(
                [
                    preservation_policy.LatestN(keep),
                    preservation_policy.BestN(
                        get_metric_fn=lambda metrics: metrics[metric],
                        n=keep_best,
                        keep_checkpoints_without_metrics=False,
                    ),
                ]
            )
        self._manager = ocp.CheckpointManager(
            _folder(model_dir),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policy,
                cleanup_tmp_directories=True,
            ),
        )

    def save(
        self,
        state: TrainState,
        loader_state: dict[str, Any],
        metrics: dict[str, float] | None = None,
    ) -> None:
        """Starts to save; returns once the state is copied and may be donated again.

        Raises:
          UserError: when this or an earlier save found the disk full.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        with _disk_errors(self._manager.directory):
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), loader=ocp.args.JsonSave(loader_state)
                ),
                metrics=metrics,
            )

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """The latest complete checkpoint in `like`'s shapes and shardings; None if there is none."""
        step = self._manager.latest_step()
        if step is None:
            return None
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(state=ocp.args.StandardRestore(like), loader=ocp.args.JsonRestore()),
        )
        return restored["state"], restored["loader"]

    def wait(self) -> None:
        """Waits for what is being saved.

        Raises:
          UserError: when it found the disk full.
        """
        with _disk_errors(self._manager.directory):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for what is being saved, and lets go of the folder."""
        self.wait()
        self._manager.close()


@contextlib.contextmanager
def _disk_errors(folder) -> Iterator[None]:
    """Turns a full disk into one line that says what survives."""
    try:
        yield
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not full and "No space left on device" not in str(error):
            raise
        raise UserError(
            f"{folder}: no space left on the disk to save a checkpoint: free some and start "
            "again, the run goes on from its last complete checkpoint"
        ) from error


def steps(model_dir: str) -> list[int]:
    """The steps of all complete checkpoints of a run, in order.

    Raises:
      UserError: when there are none.
    """
    folder = _folder(model_dir)
    found = ocp.utils.checkpoint_steps(folder) if folder.exists() else []
    if not found:
        raise UserError(f"{folder}: no complete checkpoint in there: train first, or check MODEL_DIR")
    return sorted(found)


def restore_params(model_dir: str, step: int | None = None) -> Any:
    """Only the parameters of a checkpoint: a tree of arrays.

    Raises:
      UserError: when the run has no checkpoint of `step` (None: any).
    """
    there = steps(model_dir)
    step = there[-1] if step is None else step
    if step not in there:
        raise UserError(f"{model_dir}: no checkpoint of step {step}; there are {there}")
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    with ocp.PyTreeCheckpointer() as checkpointer:
        path = _folder(model_dir) / str(step) / "state"
        tree = checkpointer.metadata(path).item_metadata.tree
        shapes = {
            "params": jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), tree["params"]
            )
        }
        return checkpointer.restore(
            path,
            args=ocp.args.PyTreeRestore(
                shapes,
                restore_args=ocp.checkpoint_utils.construct_restore_args(shapes),
                partial_restore=True,
            ),
        )["params"]
