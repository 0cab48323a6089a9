"""What a run starts from: the fitted model, the teacher and the state, laid out on the mesh."""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import optax

from distill_jax.checkpoints.orbax import Checkpointer
from distill_jax.data.loader import Loader
from distill_jax.data.vocabularies import Vocabulary
from distill_jax.errors import UserError
from distill_jax.models.t5 import Transformer
from distill_jax.training import partitioning, train_state
from distill_jax.training.initial import initial_params, load_teacher
from distill_jax.training.objectives import Objective
from distill_jax.training.partitioning import Partitioner
from distill_jax.training.train_state import TrainState


def with_vocabulary_size(model: Transformer, vocabulary) -> Transformer:
    """The model with as many ids as the vocabulary needs, where its config leaves the number open.

    The number is rounded up to a multiple of 128, which is what matrix units like.

    Raises:
      UserError: when the config's number is smaller than the vocabulary.
    """
    config = model.config
    if config.vocab_size is None:
        rounded = -(-vocabulary.vocab_size // 128) * 128
        return Transformer(dataclasses.replace(config, vocab_size=rounded))
    if config.vocab_size < vocabulary.vocab_size:
        raise UserError(
            f"VOCAB_SIZE is {config.vocab_size}, but the vocabulary has {vocabulary.vocab_size} ids"
        )
    return model


def check_views(name: str, views, view_weights: Mapping[str, float]) -> None:
    """Raises UserError unless the recipe weighs the mixture's views."""
    there, weighed = {view.name for view in views}, set(view_weights)
    if there != weighed:
        raise UserError(
            f"MIXTURE_OR_TASK_NAME {name!r} has the views {sorted(there)}, but the recipe weighs "
            f"{sorted(weighed)}: take the recipe of the same method"
        )


def with_teacher(
    objective: Objective, path: str | None, vocabulary, batch_size: int, microbatches: int, place: Partitioner
) -> tuple[Objective, Any]:
    """The objective with its teacher's model, and the teacher's parameters; None where it needs none.

    Raises:
      UserError: when there is no such teacher, or it cannot be spread over the mesh.
    """
    if not objective.needs_teacher:
        return objective, None
    model, params = load_teacher(path, vocabulary)
    partitioning.check_model(place, model.config, batch_size, microbatches)
    return (
        dataclasses.replace(objective, teacher_model=model),
        partitioning.put(params, place.params(model)),
    )


def state_shapes(model: Transformer, optimizer: optax.GradientTransformation) -> TrainState:
    """The shapes of the state; nothing is allocated."""
    return jax.eval_shape(lambda: train_state.create(train_state.init_params(model, 0), optimizer))


def start(
    model: Transformer,
    optimizer: optax.GradientTransformation,
    checkpointer: Checkpointer,
    loader: Loader,
    initial_checkpoint_path: str | None,
    seed: int,
    place: Partitioner,
    vocabulary: Vocabulary,
) -> tuple[TrainState, TrainState]:
    """The state to start from, and the shardings of its arrays; the loader is moved to the same place."""
    shapes = state_shapes(model, optimizer)
    shardings = place.state(shapes, model)
    restored = checkpointer.restore(place.shapes(shapes, model))
    if restored is not None:
        state, position = restored
        loader.set_state(position)
        return state, shardings
    if initial_checkpoint_path is None:

        def create() -> TrainState:
            return train_state.create(train_state.init_params(model, seed), optimizer)

        return jax.jit(create, out_shardings=shardings)(), shardings
    params = partitioning.put(
        initial_params(model, initial_checkpoint_path, seed, vocabulary), shardings.params
    )
    create = jax.jit(lambda params: train_state.create(params, optimizer), out_shardings=shardings)
    return create(params), shardings


def example_ids(task, split: str) -> collections.abc.Callable[[list[int]], list[str]]:
    """Turns numbers of examples in a split into their ids; reads the split when first asked."""
    ids: list[str] = []

    def look_up(numbers: list[int]) -> list[str]:
        if not ids:
            ids.extend(example.id for example in task.source.examples(split))
        return [ids[number] for number in numbers]

    return look_up
