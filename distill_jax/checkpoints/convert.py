"""From one checkpoint format to another, parameter by parameter."""

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np

from distill_jax import files
from distill_jax.checkpoints import remote, run_dir
from distill_jax.checkpoints.formats.huggingface import write_huggingface
from distill_jax.checkpoints.formats.orbax_trees import write_tree
from distill_jax.checkpoints.formats.parameters import stack
from distill_jax.checkpoints.formats.t5x_legacy import write_legacy
from distill_jax.checkpoints.formats.tokenizer_files import write_tokenizer
from distill_jax.checkpoints.layout import CHECKPOINTS
from distill_jax.checkpoints.reading import FORMATS, RUN_OF_EXPORT, Checkpoint, open_checkpoint
from distill_jax.data.vocabularies import Vocabulary, load_vocabulary
from distill_jax.errors import UserError
from distill_jax.models.config import ModelConfig
from distill_jax.models.families import describe


@dataclasses.dataclass(frozen=True)
class Converted:
    """What was written: for the user to read."""

    source_format: str
    parameters: int
    has_vocabulary: bool
    task: str | None


def convert(
    source: str,
    destination: str,
    to: str,
    *,
    step: int | str | None = None,
    task: str | None = None,
    task_feature_lengths: Mapping[str, int] | None = None,
    vocabulary: str | None = None,
    mlp_activations: tuple[str, ...] | None = None,
    scan_layers: bool = False,
    ocdbt: bool = True,
    dtype: str = "float32",
    shard_bytes: int = 5 * 10**9,
) -> Converted:
    """Writes the checkpoint `source` as `destination`, whole or not at all; holds one parameter at a time.

    The arguments are the options of `config.ConvertConfig`, where `mlp_activations` are its `activations`.

    Args:
      step: None is the latest of the source; where the source has no steps, 0 for the result.
      task: default the source's, as the vocabulary.
      task_feature_lengths: default the source's, or 512 and 256.
      scan_layers: not for Hugging Face.
      dtype: of Hugging Face's files; all others are float32.

    Raises:
      UserError: when the source cannot be read or fits no T5, or the destination is there.
    """
    if to not in FORMATS:
        raise UserError(f"{to!r}: expected one of the formats {', '.join(FORMATS)}")
    if remote.is_remote(destination):
        raise UserError(f"{destination}: write to a local folder, then copy it (gcloud storage cp -r)")
    folder = pathlib.Path(destination)
    if folder.exists():
        raise UserError(f"{destination}: is there already: choose another folder, or remove it")
    checkpoint = open_checkpoint(source, step)
    config = checkpoint.model_config(mlp_activations)
    if to.startswith("t5x") and config.family != "t5":
        raise UserError(f"{source}: a {config.family} cannot be written as {to}: T5X has only T5")
    words = load_vocabulary(vocabulary) if vocabulary else checkpoint.vocabulary()
    if words is not None and words.vocab_size > config.vocab_size:
        raise UserError(
            f"{source}: parameter token_embedder/embedding has {config.vocab_size} rows, the vocabulary needs "
            f"{words.vocab_size}"
        )
    run = _run(checkpoint, config, words, task, task_feature_lengths, scan_layers)
    number = checkpoint.step if checkpoint.format != "huggingface" else _step_of_result(step)
    with files.new_folder(folder, "choose another folder for the result") as temporary:
        home = temporary if to == "distill-jax" else temporary / RUN_OF_EXPORT
        run_dir.claim(str(home), run)
        if words is not None:
            words.save(home)
        parameters = stack(checkpoint.parameters) if scan_layers else checkpoint.parameters
        if to == "huggingface":
            ids = {"eos_token_id": words.eos_id, "pad_token_id": words.eos_id} if _is_causal(words) else None
            write_huggingface(temporary, checkpoint.parameters, config, dtype, shard_bytes, ids)
            if words is not None:
                write_tokenizer(temporary, words, config.vocab_size)
        elif to == "t5x":
            write_legacy(temporary / f"checkpoint_{number}", number, parameters)
        elif to == "t5x-orbax":
            others = {"state": {"step": np.asarray(number, np.int32)}}
            write_tree(temporary, number, "target", parameters, others, step_prefix="checkpoint", ocdbt=ocdbt)
        else:
            others = {"step": np.asarray(number, np.int32)}
            write_tree(temporary / CHECKPOINTS, number, "params", parameters, others, ocdbt=ocdbt)
    task = run.mixture_or_task_name or None
    return Converted(checkpoint.format, len(checkpoint.parameters), words is not None, task)


def _is_causal(words: Vocabulary | None) -> bool:
    """Whether no id is padding: transformers takes the end token for it then."""
    return words is not None and words.pad_id is None


def _step_of_result(step: int | str | None) -> int:
    if step is None:
        return 0
    if not str(step).isdecimal():
        raise UserError(f"step {step!r}: the source has no steps: expected a number, for the result")
    return int(step)


def _run(
    checkpoint: Checkpoint,
    config: ModelConfig,
    vocabulary: Vocabulary | None,
    task: str | None,
    lengths: Mapping[str, int] | None,
    scan_layers: bool,
) -> run_dir.Run:
    """The run that the result is of: the source's own, or one that was never trained."""
    run = checkpoint.run() or run_dir.Run(
        mixture_or_task_name="",
        label_source="reference",
        module=None,
        task_feature_lengths={"inputs": 512, "targets": 256},
        vocabulary="",
        data="",
        model={},
        batch_size=0,
        seed=0,
        view_weights={},
    )
    changes = {"task_feature_lengths": dict(lengths)} if lengths else {}
    if task is not None:
        changes |= {"mixture_or_task_name": task, "own_data": None}
    if vocabulary is not None:
        changes["vocabulary"] = vocabulary.fingerprint
    return dataclasses.replace(
        run,
        data=f"converted from {checkpoint.format}",  # so that no training resumes it: its optimizer is gone
        model=describe(dataclasses.replace(config, scan_layers=scan_layers)),
        **changes,
    )
