"""Parameters from elsewhere: a student's first ones, and those of a white-box teacher."""

import pathlib
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from distill_jax.errors import UserError
from distill_jax.interop.huggingface import load_huggingface, read_config
from distill_jax.models.config import T5Config
from distill_jax.models.stacking import stack_layers, unstack_layers
from distill_jax.models.t5 import Transformer
from distill_jax.training import checkpoints, run_dir, train_state


def _check_shapes(path: str, found: Any, expected: Any) -> None:
    found = traverse_util.flatten_dict(found, sep="/")
    expected = traverse_util.flatten_dict(expected, sep="/")
    for name, shape in expected.items():
        if name not in found:
            raise UserError(
                f"{path}: no parameter {name} {list(shape.shape)}: "
                "the checkpoint is of another architecture than the model's gin file"
            )
        if found[name].shape != shape.shape:
            raise UserError(
                f"{path}: parameter {name} has shape {list(found[name].shape)}, the model's gin file "
                f"gives {list(shape.shape)}"
            )
    left_over = sorted(set(found) - set(expected))
    if left_over:
        raise UserError(f"{path}: parameter {left_over[0]} is unknown to the model's gin file")


def _unrolled(path: pathlib.Path) -> Any:
    """The checkpoint's parameters with layers as `layers_<n>`, whatever it was saved as."""
    if (path / "config.json").exists():
        return load_huggingface(str(path))[0]
    step = None
    if path.name.isdigit() and path.parent.name == "checkpoints":
        step, path = int(path.name), path.parent.parent
    if not (path / "run.json").exists():
        raise UserError(
            f"INITIAL_CHECKPOINT_PATH {path}: expected a MODEL_DIR of a run, its checkpoints/<step>, or a "
            "Hugging Face folder with config.json and model.safetensors"
        )
    params = checkpoints.restore_params(str(path), step)
    return unstack_layers(params) if run_dir.load(str(path)).model["scan_layers"] else params


def initial_params(model, path: str | None, seed: int) -> Any:
    """Float32 parameters of `model`: random when `path` is None, else those of the checkpoint.

    Raises:
      UserError: when the checkpoint is missing or does not fit; names the parameter and both shapes.
    """
    if path is None:
        return train_state.init_params(model, seed)
    params = _unrolled(pathlib.Path(path))
    if model.config.scan_layers:
        params = stack_layers(params)
    expected = jax.eval_shape(lambda: train_state.init_params(model, seed))
    _check_shapes(path, params, expected)
    return jax.tree.map(lambda x: jax.numpy.asarray(np.asarray(x), jax.numpy.float32), params)


def load_teacher(path: str | None, vocabulary: Any) -> tuple[Transformer, Any]:
    """A white-box teacher: its model and float32 parameters.

    Args:
      path: a run's folder, one of its checkpoints, or a Hugging Face folder.
      vocabulary: the student's, which the teacher must share.

    Raises:
      UserError: when there is none, or it has another vocabulary.
    """
    if path is None:
        raise UserError("this method needs a teacher: give TEACHER_CHECKPOINT_PATH (--teacher-checkpoint)")
    folder = pathlib.Path(path)
    if (folder / "config.json").exists():
        config = read_config(path)
        if config.vocab_size < vocabulary.vocab_size:
            raise UserError(
                f"TEACHER_CHECKPOINT_PATH {path}: has {config.vocab_size} ids, the student's vocabulary "
                f"{vocabulary.vocab_size}: both must have the same vocabulary"
            )
    else:
        root = folder.parent.parent if folder.parent.name == "checkpoints" else folder
        run = run_dir.load(str(root))
        if run.vocabulary != vocabulary.fingerprint:
            raise UserError(
                f"TEACHER_CHECKPOINT_PATH {path}: was trained with the vocabulary {run.vocabulary}, the "
                f"student's is {vocabulary.fingerprint}: give --vocabulary {root}"
            )
        config = T5Config(**run.model)
    model = Transformer(config)
    return model, initial_params(model, path, 0)
