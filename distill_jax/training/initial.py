"""Parameters from elsewhere: a student's first ones, and those of a white-box teacher."""

from typing import Any

from distill_jax.checkpoints.formats.parameters import check, to_arrays
from distill_jax.checkpoints.reading import Checkpoint, open_checkpoint
from distill_jax.data.vocabularies import Vocabulary
from distill_jax.errors import UserError
from distill_jax.models.families import Network, make_network


def initial_params(model: Network, path: str, vocabulary: Vocabulary, shardings: Any = None) -> Any:
    """Float32 parameters for a student, `model`, from any checkpoint that `reading.open_checkpoint` takes.

    They are laid out by `shardings`, as `parameters.to_arrays` says.

    Raises:
      UserError: when the checkpoint is missing, is of a run with another vocabulary, or does not fit; names the
        parameter and both shapes.
    """
    checkpoint = open_checkpoint(path)
    check(path, checkpoint.parameters, model.config, "the model's gin file")
    _check_vocabulary(f"INITIAL_CHECKPOINT_PATH {path}", checkpoint, vocabulary)
    return to_arrays(checkpoint.parameters, model.config.scan_layers, shardings)


def load_teacher(path: str | None, vocabulary: Vocabulary) -> tuple[Network, Any]:
    """A white-box teacher: its model and float32 parameters; `path` as of `initial_params`.

    Raises:
      UserError: when there is no teacher, or its vocabulary is not the student's.
    """
    if path is None:
        raise UserError("this method needs a teacher: give TEACHER_CHECKPOINT_PATH (--teacher-checkpoint)")
    checkpoint = open_checkpoint(path)
    config = checkpoint.model_config()
    _check_vocabulary(f"TEACHER_CHECKPOINT_PATH {path}", checkpoint, vocabulary)
    if config.vocab_size < vocabulary.vocab_size:
        raise UserError(
            f"TEACHER_CHECKPOINT_PATH {path}: has {config.vocab_size} ids, the student's vocabulary "
            f"{vocabulary.vocab_size}: both must have the same vocabulary"
        )
    return make_network(config), to_arrays(checkpoint.parameters)


def _check_vocabulary(option: str, checkpoint: Checkpoint, vocabulary: Vocabulary) -> None:
    """Two vocabularies of one size have the same shapes: only the run says which one its ids are of."""
    run = checkpoint.run()
    causal = run is None and checkpoint.config is not None and checkpoint.config.pad_id != 0
    own = checkpoint.vocabulary() if causal else None
    if own is not None and own.fingerprint != vocabulary.fingerprint:
        raise UserError(f"{option}: has a vocabulary of its own: give --vocabulary {checkpoint.folder} too")
    if run is not None and run.vocabulary not in ("", vocabulary.fingerprint):
        raise UserError(
            f"{option}: was trained with the vocabulary {run.vocabulary}, the student's is "
            f"{vocabulary.fingerprint}: give --vocabulary {checkpoint.run_folder}"
        )
