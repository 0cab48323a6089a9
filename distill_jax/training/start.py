"""The state that a run starts from, laid out on the mesh."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from distill_jax.checkpoints.orbax import Checkpointer
from distill_jax.data.loader import Loader
from distill_jax.models.families import Network
from distill_jax.training import partitioning, train_state
from distill_jax.training.build import Run
from distill_jax.training.initial import initial_params
from distill_jax.training.partitioning import Partitioner
from distill_jax.training.programs import remembered
from distill_jax.training.train_state import TrainState


@remembered
def state_shapes(model: Network, optimizer: optax.GradientTransformation) -> TrainState:
    """The shapes of the state; nothing is allocated."""
    return jax.eval_shape(lambda: train_state.create(train_state.init_params(model, 0), optimizer))


@remembered
def _first_state(
    place: Partitioner, model: Network, optimizer: optax.GradientTransformation, seed: int
) -> Callable[[Any], TrainState]:
    """(given parameters or None, for random ones) -> the state before the first step, on its devices."""

    def create(params) -> TrainState:
        params = train_state.init_params(model, seed) if params is None else params
        return train_state.create(params, optimizer)

    return jax.jit(create, out_shardings=place.state(state_shapes(model, optimizer), model))


def start(run: Run, checkpointer: Checkpointer, loader: Loader) -> TrainState:
    """The state to resume or start from; the loader is moved to the same place."""
    config, model, optimizer = run.config, run.model, run.optimizer
    shapes = state_shapes(model, optimizer)
    restored = checkpointer.restore(run.place.shapes(shapes, model))
    if restored is not None:
        state, position = restored
        loader.set_state(position)
        return state
    params = None
    if config.initial_checkpoint_path is not None:
        params = initial_params(model, config.initial_checkpoint_path, run.vocabulary)
        params = partitioning.put(params, run.place.params(model))
    return _first_state(run.place, model, optimizer, config.seed)(params)


def example_ids(task, split: str) -> Callable[[list[int]], list[str]]:
    """Turns numbers of examples in a split into their ids; reads the split when first asked."""
    ids: list[str] = []

    def look_up(numbers: list[int]) -> list[str]:
        if not ids:
            ids.extend(example.id for example in task.source.examples(split))
        return [ids[number] for number in numbers]

    return look_up
