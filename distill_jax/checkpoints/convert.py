"""From one checkpoint format to another, parameter by parameter."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from distill_jax import checksums, files
from distill_jax.checkpoints import remote, run_dir
from distill_jax.checkpoints.layout import CHECKPOINTS
from distill_jax.checkpoints.orbax_trees import write_tree
from distill_jax.checkpoints.other_formats.huggingface import write_huggingface
from distill_jax.checkpoints.other_formats.parameters import Parameters, stack
from distill_jax.checkpoints.other_formats.t5x_legacy import write_legacy
from distill_jax.checkpoints.other_formats.tokenizer_files import write_tokenizer
from distill_jax.checkpoints.reading import RUN_OF_EXPORT, Checkpoint, open_checkpoint
from distill_jax.checkpoints.vocabulary import vocabulary_spec
from distill_jax.config import ConvertConfig
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


def convert(config: ConvertConfig) -> Converted:
    """Writes a checkpoint in another format, whole or not at all; holds one parameter at a time.

    Task, lengths and vocabulary are the source's by default; lengths that it does not have are 512 and 256.
    Where the source has no steps, `step` is the result's, 0 by default. Formats but Hugging Face's are float32.

    Raises:
      UserError: when the source cannot be read or fits no T5, or the destination is there.
    """
    source, destination, to = config.source, config.destination, config.to
    if remote.is_remote(destination):
        raise UserError(f"{destination}: write to a local folder, then copy it (gcloud storage cp -r)")
    folder = pathlib.Path(destination)
    files.refuse_existing(folder, "choose another folder")
    checkpoint = open_checkpoint(source, config.step, config.verify_checksums)
    model = checkpoint.model_config(config.activations)
    if to.startswith("t5x") and model.family != "t5":
        raise UserError(f"{source}: a {model.family} cannot be written as {to}: T5X has only T5")
    words = (
        load_vocabulary(vocabulary_spec(config.vocabulary, None))
        if config.vocabulary
        else checkpoint.vocabulary()
    )
    if words is not None and words.vocab_size > model.vocab_size:
        raise UserError(
            f"{source}: parameter token_embedder/embedding has {model.vocab_size} rows, the vocabulary needs "
            f"{words.vocab_size}"
        )
    run = _run(checkpoint, config, model, words)
    number = checkpoint.step if checkpoint.format != "huggingface" else _step_of_result(config.step)
    with files.new_folder(folder, "choose another folder for the result") as temporary:
        home = temporary if to == "distill-jax" else temporary / RUN_OF_EXPORT
        run_dir.claim(str(home), run)
        if words is not None:
            words.save(home)
        parameters = stack(checkpoint.parameters) if config.scan_layers else checkpoint.parameters
        if to == "huggingface":
            options = {"dtype": config.dtype, "shard_bytes": int(config.shard_gb * 10**9)}
            write_transformers(temporary, checkpoint.parameters, model, words, **options)
        elif to == "t5x":
            write_legacy(temporary / f"checkpoint_{number}", number, parameters)
        elif to == "t5x-orbax":
            others = {"state": {"step": np.asarray(number, np.int32)}}
            options = {"step_prefix": "checkpoint", "ocdbt": config.ocdbt}
            write_tree(temporary, number, "target", parameters, others, **options)
        else:
            others = {"step": np.asarray(number, np.int32)}
            write_tree(temporary / CHECKPOINTS, number, "params", parameters, others, ocdbt=config.ocdbt)
            checksums.write(temporary / CHECKPOINTS / str(number))
    task = run.mixture_or_task_name or None
    return Converted(checkpoint.format, len(checkpoint.parameters), words is not None, task)


def write_transformers(
    folder: pathlib.Path,
    parameters: Parameters,
    model: ModelConfig,
    words: Vocabulary | None,
    *,
    dtype: str,
    shard_bytes: int,
    inputs_length: int | None = None,
    generation: Mapping[str, Any] | None = None,
) -> None:
    """Writes the weights, and the tokenizer of `words`, as transformers' `from_pretrained` reads them.

    Args:
      folder: exists.
      dtype: of the files; with `shard_bytes` as of `write_huggingface`.
      inputs_length: tokens that the tokenizer cuts an input to where it is asked to; None for no bound.
      generation: what `generation_config.json` says beside the special ids.

    Raises:
      UserError: where transformers has no such model, or a parameter cannot be read.
    """
    is_causal = words is not None and words.pad_id is None  # transformers pads with the end token then
    ids = {"eos_token_id": words.eos_id, "pad_token_id": words.eos_id} if is_causal else None
    write_huggingface(folder, parameters, model, dtype, shard_bytes, ids, generation)
    if words is not None:
        write_tokenizer(folder, words, model.vocab_size, inputs_length)


def _step_of_result(step: int | str) -> int:
    if step == "best":
        raise UserError(f"step {step!r}: the source has no steps: expected a number, for the result")
    return 0 if step == "latest" else int(step)


def _run(
    checkpoint: Checkpoint, config: ConvertConfig, model: ModelConfig, vocabulary: Vocabulary | None
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
    changes = {"model": describe(dataclasses.replace(model, scan_layers=config.scan_layers))}
    changes["lora"] = None  # merged
    changes["data"] = f"converted from {checkpoint.format}"  # no training resumes it: its optimizer is gone
    if config.task_feature_lengths is not None:
        changes["task_feature_lengths"] = config.task_feature_lengths
    if config.task is not None:
        changes |= {"mixture_or_task_name": config.task, "own_data": None}
    if vocabulary is not None:
        changes["vocabulary"] = vocabulary.fingerprint
    return dataclasses.replace(run, **changes)
