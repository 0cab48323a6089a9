"""The layout of a run's folder, once: the names of its files.

MODEL_DIR/
  run.json              what the run is: see `run_dir.Run`
  config.json           the options that repeat it
  header.json           what `train` said of it when it was last started, a line each
  data.json             what it is trained on: the manifest of the prepared records, with counts
  vocabulary.json       and vocabulary.model or tokenizer.json: see `data.vocabularies`
  metrics.jsonl         of the training and the validations
  scores.json           validation scores of the checkpoints: see `orbax.Scores`
  checkpoints/STEP/     an Orbax checkpoint: state/ (parameters, optimizer, step), loader/ (place in data), and
                        checksums.txt of all its files
  damaged/STEP/         checkpoints that a resumed run found damaged and went back before
  train.lock            locked by the process that trains
"""

import os
import pathlib

from distill_jax.errors import UserError

RUN, CONFIG, DATA, SCORES, CHECKPOINTS = "run.json", "config.json", "data.json", "scores.json", "checkpoints"
STATE, LOADER = "state", "loader"
DAMAGED, HEADER, LOCK, METRICS = "damaged", "header.json", "train.lock", "metrics.jsonl"


def require_run(model_dir: str | os.PathLike) -> None:
    """Raises a UserError when a folder is not that of a run; loads nothing, so that it can be asked first."""
    path = pathlib.Path(model_dir) / RUN
    if not path.exists():
        raise UserError(f"{path}: no such file: expected the folder of a run")


def checkpoints_of(model_dir: str | os.PathLike) -> pathlib.Path:
    """The folder of a run's checkpoints, absolute."""
    return pathlib.Path(model_dir).absolute() / CHECKPOINTS
