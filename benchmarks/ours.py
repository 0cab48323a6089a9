"""Our train step as a contestant. Imports neither TensorFlow, gin nor grain."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks.contestants import LEARNING_RATE, Contestant
from distill_jax.models.config import ModelConfig
from distill_jax.models.families import make_network
from distill_jax.training import optimizers, train_state
from distill_jax.training.losses import step_by_step_weights
from distill_jax.training.step import make_train_step

Batches = Sequence[Mapping[str, np.ndarray]]


def contestant(
    config: ModelConfig, params: Any, batches: Batches, pairs: Sequence[float], described: dict
) -> Contestant:
    """Our step from these parameters, which are copied.

    Args:
      config: of the student.
      params: its parameters.
      batches: packed, of `records.to_features`.
      pairs: in each of them.
      described: how they are packed, for the results.
    """
    optimizer = optimizers.adamw(LEARNING_RATE)
    train_step = make_train_step(make_network(config), optimizer, step_by_step_weights())
    batches = jax.device_put(list(batches))
    state = train_state.create(jax.tree.map(jax.numpy.array, params), optimizer)

    def step(number: int) -> float:
        nonlocal state
        state, metrics = train_step(state, batches[number])
        return float(jax.block_until_ready((state, metrics))[1]["loss"])

    return Contestant(step, pairs, described | {"dtype": config.dtype, "optimizer": "adamw", "clip_norm": 1.0})
