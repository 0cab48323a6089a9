"""The state that a run starts from, laid out on the mesh."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import jax
import jax.numpy as jnp
import optax

from distill_jax.checkpoints.layout import checkpoints_of
from distill_jax.checkpoints.orbax import Checkpointer, latest_step
from distill_jax.data.loader import Loader
from distill_jax.errors import UserError
from distill_jax.models.families import Network
from distill_jax.models.lora import Lora
from distill_jax.training import train_state
from distill_jax.training.build import Run
from distill_jax.training.initial import initial_params
from distill_jax.training.partitioning import Partitioner
from distill_jax.training.programs import compiling, remembered
from distill_jax.training.train_state import TrainState


@remembered
def state_shapes(
    model: Network, optimizer: optax.GradientTransformation, lora: Lora | None = None
) -> TrainState:
    """The shapes of the state, of adapters where there are any; nothing is allocated."""
    return jax.eval_shape(lambda: train_state.create(_first_params(model, 0, lora), optimizer))


def _first_params(model: Network, seed: int, lora: Lora | None) -> Any:
    """Random parameters of a model, or its adapters, of which shapes are all that is needed of the model."""
    if lora is None:
        return train_state.init_params(model, seed)
    return lora.init(jax.eval_shape(lambda: train_state.init_params(model, seed)), seed)


@remembered
def _new_state(
    place: Partitioner,
    model: Network,
    optimizer: optax.GradientTransformation,
    seed: int,
    lora: Lora | None,
) -> Future[jax.stages.Compiled]:
    def create() -> TrainState:
        return train_state.create(_first_params(model, seed, lora), optimizer)

    shardings = place.state(state_shapes(model, optimizer, lora), model, lora)
    return compiling(jax.jit(create, out_shardings=shardings).lower())


def _begins_new(run: Run) -> bool:
    """Whether the run starts from nothing but its seed; adapters do, whatever their base is."""
    return run.start is None or run.lora is not None


def _compiled_new_state(run: Run) -> Future[jax.stages.Compiled]:
    return _new_state(run.place, run.model, run.optimizer, run.config.seed, run.lora)


def prepare(run: Run) -> None:
    """Begins to compile what `start` will need, in a thread: for a caller that has other things to trace."""
    if _begins_new(run) and latest_step(run.config.model_dir) is None:
        _compiled_new_state(run)


@remembered
def _optimizer_state(
    place: Partitioner, model: Network, optimizer: optax.GradientTransformation
) -> Callable[[Any], optax.OptState]:
    return jax.jit(optimizer.init, out_shardings=place.state(state_shapes(model, optimizer), model).opt_state)


def start(run: Run, checkpointer: Checkpointer, loader: Loader) -> TrainState:
    """The state to resume or start from; the loader is moved to the same place."""
    config, model, optimizer = run.config, run.model, run.optimizer
    lora = run.lora
    shapes = state_shapes(model, optimizer, lora)
    restored = checkpointer.restore(run.place.shapes(shapes, model, lora))
    if restored is not None:
        state, position = restored
        try:
            loader.set_state(position)
        except UserError as error:
            folder = checkpoints_of(config.model_dir) / str(int(state.step))
            raise UserError(f"{folder}: {error}: delete this folder to resume from the one before it") from None
        return state
    if _begins_new(run):
        return _compiled_new_state(run).result()()
    shardings = run.place.state(shapes, model)
    params = initial_params(model, run.start, run.vocabulary, shardings.params)
    opt_state = _optimizer_state(run.place, model, optimizer)(params)
    return TrainState(jax.device_put(jnp.zeros((), jnp.int32), shardings.step), params, opt_state)


def example_ids(task, split: str) -> Callable[[list[int]], list[str]]:
    """Turns numbers of examples in a split into their ids; reads the split when first asked."""
    ids: list[str] = []

    def look_up(numbers: list[int]) -> list[str]:
        if not ids:
            ids.extend(example.id for example in task.source.examples(split))
        return [ids[number] for number in numbers]

    return look_up
