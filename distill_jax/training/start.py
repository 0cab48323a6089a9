"""The state that a run starts from, laid out on the mesh."""

from collections.abc import Callable

import jax
import optax

from distill_jax.checkpoints.orbax import Checkpointer
from distill_jax.data.loader import Loader
from distill_jax.models.families import Network
from distill_jax.models.lora import Lora
from distill_jax.training import partitioning, train_state
from distill_jax.training.build import Run
from distill_jax.training.initial import initial_params
from distill_jax.training.train_state import TrainState


def state_shapes(
    model: Network, optimizer: optax.GradientTransformation, lora: Lora | None = None
) -> TrainState:
    """The shapes of the state, of adapters where there are any; nothing is allocated."""

    def make() -> TrainState:
        params = train_state.init_params(model, 0)
        return train_state.create(params if lora is None else lora.init(params, 0), optimizer)

    return jax.eval_shape(make)


def start(run: Run, checkpointer: Checkpointer, loader: Loader) -> tuple[TrainState, TrainState]:
    """The state to resume or start from, and its shardings; the loader is moved to the same place."""
    config, model, optimizer = run.config, run.model, run.optimizer
    base, lora = run.base, run.lora
    shapes = state_shapes(model, optimizer, lora)
    shardings = run.place.state(shapes, model, lora)
    restored = checkpointer.restore(run.place.shapes(shapes, model, lora))
    if restored is not None:
        state, position = restored
        loader.set_state(position)
        return state, shardings
    params = None
    if lora is None and config.initial_checkpoint_path is not None:
        params = initial_params(model, config.initial_checkpoint_path, run.vocabulary)
        params = partitioning.put(params, shardings.params)

    def create(params) -> TrainState:
        if lora is not None:
            params = lora.init(base.params, config.seed)
        elif params is None:
            params = train_state.init_params(model, config.seed)
        return train_state.create(params, optimizer)

    return jax.jit(create, out_shardings=shardings)(params), shardings


def example_ids(task, split: str) -> Callable[[list[int]], list[str]]:
    """Turns numbers of examples in a split into their ids; reads the split when first asked."""
    ids: list[str] = []

    def look_up(numbers: list[int]) -> list[str]:
        if not ids:
            ids.extend(example.id for example in task.source.examples(split))
        return [ids[number] for number in numbers]

    return look_up
