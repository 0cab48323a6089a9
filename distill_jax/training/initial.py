"""Parameters from elsewhere: a student's first ones, and those of a white-box teacher."""

import dataclasses
import math
from typing import Any

from distill_jax.checkpoints.hub import NotFetched
from distill_jax.checkpoints.other_formats.parameters import check, to_arrays
from distill_jax.checkpoints.reading import Checkpoint, open_checkpoint
from distill_jax.config import ModelOptions, Sources, TrainConfig, build, gin_files
from distill_jax.data.vocabularies import Vocabulary
from distill_jax.errors import UserError
from distill_jax.models.config import ModelConfig
from distill_jax.models.families import Network, canonical, make_config, make_network

_START, _TEACHER = map(TrainConfig.named, ("initial_checkpoint_path", "teacher_checkpoint_path"))
_VOCABULARY = TrainConfig.named("vocabulary")
WITHOUT = "give a local folder of it with --init FOLDER, or train from scratch with --init none"


def open_start(path: str, model: Network, verify: bool = True) -> Checkpoint:
    """Opens the checkpoint that a student starts from, and compares it with the network.

    For `verify` see `open_checkpoint`.

    Raises:
      UserError: when it cannot be had or does not fit; names the parameter and both shapes, or what to do.
    """
    try:
        checkpoint = open_checkpoint(path, verify=verify)
    except NotFetched as error:
        raise UserError(f"{_START} {error}; {WITHOUT}") from None
    try:
        differing = _differing(checkpoint.config, model.config)
        if "model_family" not in differing:
            check(path, checkpoint.parameters, _closed(model.config, checkpoint), "the model's gin file")
        for name, (theirs, ours) in differing.items():
            raise UserError(
                f"{path}: {name} is {theirs}, the model's gin file has {ours}: "
                f"give {ModelOptions.named(name)} {theirs}"
            )
    except UserError as error:
        fitting = [name for name in gin_files.models() if not _differing(checkpoint.config, _preset(name))]
        hint = f"; it is a --model {' or '.join(fitting)}" if checkpoint.config and fitting else ""
        raise UserError(f"{_START} {error}{hint}") from None
    return checkpoint


def _closed(config: ModelConfig, checkpoint: Checkpoint) -> ModelConfig:
    """The config, with the checkpoint's number of ids where it leaves that open."""
    embedding = checkpoint.parameters.get("token_embedder/embedding")
    rows = config.vocab_size or (embedding.shape[0] if embedding is not None else 1)
    return dataclasses.replace(config, vocab_size=rows)


def _preset(name: str) -> ModelConfig:
    return make_config(build(ModelOptions, Sources(model=name)).shape)


def _differing(theirs: ModelConfig | None, ours: ModelConfig) -> dict[str, tuple[Any, Any]]:
    """What networks do not have in common, also those of the same shapes; what either leaves open is equal."""
    first, second = (canonical(config) if config else {} for config in (theirs, ours))
    names = sorted(first.keys() & second.keys(), key=lambda name: (name != "model_family", name))
    pairs = {name: (first[name], second[name]) for name in names}
    return {name: pair for name, pair in pairs.items() if None not in pair and not _equal(*pair)}


def _equal(one: Any, other: Any) -> bool:
    """Whether two settings are the same; numbers may be rounded to float32, as GGUF files hold them."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6)
    return one == other


def initial_params(
    model: Network, checkpoint: Checkpoint, vocabulary: Vocabulary, shardings: Any = None
) -> Any:
    """Float32 parameters for a student, `model`, from a checkpoint that is open.

    They are laid out by `shardings`, as `parameters.to_arrays` says.

    Raises:
      UserError: when the checkpoint is of a run with another vocabulary, or does not fit; names the parameter
        and both shapes.
    """
    check_start(checkpoint, vocabulary)
    check(checkpoint.path, checkpoint.parameters, model.config, "the model's gin file")
    return to_arrays(checkpoint.parameters, model.config.scan_layers, shardings)


def check_start(checkpoint: Checkpoint, vocabulary: Vocabulary) -> None:
    """Raises UserError when the checkpoint to start from was trained with another vocabulary than this."""
    _check_vocabulary(f"{_START} {checkpoint.path}", checkpoint, vocabulary)


def load_teacher(path: str | None, vocabulary: Vocabulary, verify: bool = True) -> tuple[Network, Any]:
    """A white-box teacher: its model and float32 parameters; `path` and `verify` as of `open_checkpoint`.

    Raises:
      UserError: when there is no teacher, or its vocabulary is not the student's.
    """
    if path is None:
        raise UserError(f"this method needs a teacher: give {_TEACHER}")
    checkpoint = open_checkpoint(path, verify=verify)
    config = checkpoint.model_config()
    _check_vocabulary(f"{_TEACHER} {path}", checkpoint, vocabulary)
    if config.vocab_size < vocabulary.vocab_size:
        raise UserError(
            f"{_TEACHER} {path}: has {config.vocab_size} ids, the student's vocabulary "
            f"{vocabulary.vocab_size}: both must have the same vocabulary"
        )
    return make_network(config), to_arrays(checkpoint.parameters)


def _check_vocabulary(option: str, checkpoint: Checkpoint, vocabulary: Vocabulary) -> None:
    """Two vocabularies of one size have the same shapes: only the run says which one its ids are of."""
    run = checkpoint.run()
    causal = run is None and checkpoint.config is not None and checkpoint.config.pad_id != 0
    own = checkpoint.vocabulary() if causal else None
    if own is not None and own.fingerprint != vocabulary.fingerprint:
        raise UserError(
            f"{option}: has a vocabulary of its own: leave {_VOCABULARY} out, or give --vocabulary "
            f"{checkpoint.folder}"
        )
    if run is not None and run.vocabulary not in ("", vocabulary.fingerprint):
        raise UserError(
            f"{option}: was trained with the vocabulary {run.vocabulary}, the student's is "
            f"{vocabulary.fingerprint}: give --vocabulary {checkpoint.run_folder}, or to start from it leave "
            f"{_VOCABULARY} out"
        )
