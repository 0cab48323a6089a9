"""Initial parameters: random, from one of our runs, or from a Hugging Face folder."""

import pathlib
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from distill_jax.errors import UserError
from distill_jax.interop.huggingface import load_huggingface
from distill_jax.models.stacking import stack_layers, unstack_layers
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
