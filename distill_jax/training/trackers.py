"""Metrics to Weights & Biases and MLflow, for whoever has them; both are extras."""

import importlib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from distill_jax.checkpoints import run_dir
from distill_jax.config import TrainConfig
from distill_jax.errors import UserError

Track = Callable[[int, Mapping[str, float]], None]  # (step, metrics by name)


class Trackers:
    """What `--wandb` and `--mlflow` ask for; a resumed run goes on in its own record.

    Raises:
      UserError: for a package that is not installed, or a service that refuses the run.
    """

    def __init__(self, config: TrainConfig):
        self._tracks: list[Track] = []
        self._closes: list[Callable[[], None]] = []
        for name, open_one in (("wandb", _wandb), ("mlflow", _mlflow)):
            place = getattr(config, name)
            if place is None:
                continue
            try:
                track, close = open_one(imported(name), place, config)
            except UserError:
                raise
            except Exception as error:  # each of the libraries has errors of its own
                raise UserError(f"--{name} {place}: {str(error).splitlines()[0]}") from error
            self._tracks.append(track)
            self._closes.append(close)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Tells each of a step's metrics."""
        for track in self._tracks:
            track(step, metrics)

    def close(self) -> None:
        """Flushes and closes each."""
        for close in self._closes:
            close()


def check(config: TrainConfig) -> None:
    """Raises UserError where a package that the configuration asks for is not installed."""
    for name in ("wandb", "mlflow"):
        if getattr(config, name) is not None:
            imported(name)


def imported(name: str) -> Any:
    """The package behind a flag.

    Raises:
      UserError: where it is not installed; names the extra.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise UserError(f"--{name} needs {name}: pip install 'distill_jax[{name}]'") from None


def _wandb(wandb: Any, project: str, config: TrainConfig) -> tuple[Track, Callable[[], None]]:
    folder = pathlib.Path(config.model_dir)
    key = run_dir.fingerprint(config.model_dir)
    run = wandb.init(
        project=project, id=key, name=folder.name, dir=str(folder), config=config.to_json(), resume="allow"
    )
    run.define_metric("*", step_metric="step")  # a step that is done again after a resume counts once more
    return lambda step, metrics: run.log({"step": step, **metrics}), run.finish


def _mlflow(mlflow: Any, uri: str, config: TrainConfig) -> tuple[Track, Callable[[], None]]:
    key = run_dir.fingerprint(config.model_dir)
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("distill_jax")
    before = mlflow.search_runs(filter_string=f"tags.distill_jax = '{key}'", output_format="list")
    if before:
        mlflow.start_run(run_id=before[0].info.run_id)
    else:
        mlflow.start_run(run_name=pathlib.Path(config.model_dir).name, tags={"distill_jax": key})
        mlflow.log_params(config.to_json())
    return lambda step, metrics: mlflow.log_metrics(dict(metrics), step=step), mlflow.end_run
