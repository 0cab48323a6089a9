"""The layout of a run's folder, once: the names of its files.

MODEL_DIR/
  run.json              what the run is: see `run_dir.Run`
  config.json           the options that repeat it
  data.json             what it is trained on: the manifest of the prepared records, with counts
  vocabulary.json       and vocabulary.model or tokenizer.json: see `data.vocabularies`
  scores.json           validation scores of the checkpoints: see `orbax.Scores`
  checkpoints/STEP/     an Orbax checkpoint: state/ (parameters, optimizer, step), loader/ (place in data)
"""

import os
import pathlib

RUN, CONFIG, DATA, SCORES, CHECKPOINTS = "run.json", "config.json", "data.json", "scores.json", "checkpoints"
STATE, LOADER = "state", "loader"


def checkpoints_of(model_dir: str | os.PathLike) -> pathlib.Path:
    """The folder of a run's checkpoints, absolute."""
    return pathlib.Path(model_dir).absolute() / CHECKPOINTS
