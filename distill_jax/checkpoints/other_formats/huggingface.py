"""Hugging Face's folders, `config.json` and safetensors, read and written without transformers.

What is of one family, the names of its parameters and the fields of its `config.json`, is in a file of its own,
such as `t5_names`; see `Names`.
"""

import json
import logging
import os
import pathlib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from distill_jax import files
from distill_jax.checkpoints.other_formats import (
    llama_names,
    t5_names,
    t5gemma2_names,
    t5gemma_names,
    umt5_names,
)
from distill_jax.checkpoints.other_formats.parameters import Parameter, Parameters, check
from distill_jax.checkpoints.other_formats.safetensors_files import read_tensors, write_tensors
from distill_jax.errors import UserError
from distill_jax.models.config import ModelConfig
from distill_jax.models.families import check_fields, describe

logger = logging.getLogger(__name__)


class Names(Protocol):
    """What a family's file has.

    Attributes:
      MODEL_TYPES: the `model_type` of the folders that it reads.
      CONFIG: class of the family's config.
      EMBEDDING: their name of the embedding.
      HEAD: their name of the output projection.
      SKIPPED: pattern of names: what these tensors are, which the family is without; the user is told.
      UNUSED: names that may be there and mean nothing.
      RENAMED: pattern of names: what its match is replaced by, to give the names of `names`.
    """

    MODEL_TYPES: Collection[str]
    CONFIG: type[ModelConfig]
    EMBEDDING: str
    HEAD: str
    SKIPPED: Mapping[str, str]
    UNUSED: Collection[str]
    RENAMED: Mapping[str, str]

    def names(self, config: Any) -> Iterator[tuple[str, str, bool]]:
        """(their name, our name, transposed) of every parameter."""
        ...

    def copies(self, config: Any) -> Iterator[str]:
        """Their names of tensors that repeat the embedding."""
        ...

    def read_config(self, path: pathlib.Path, config: Mapping[str, Any], stored: Collection[str]) -> Any:
        """The model that `config.json`, at `path`, and the names of the tensors describe; or a UserError."""
        ...

    def write_config(self, config: Any) -> dict[str, Any]:
        """`config.json` but for its `torch_dtype`; or a UserError, where transformers has no such model."""
        ...


FAMILIES: tuple[Names, ...] = (t5_names, umt5_names, t5gemma_names, t5gemma2_names, llama_names)
_SPECIAL_IDS = ("decoder_start_token_id", "bos_token_id", "eos_token_id", "pad_token_id")


def _read_config(path: pathlib.Path) -> tuple[dict[str, Any], Names]:
    """`config.json`, and the family that it is of."""
    by_type = {kind: family for family in FAMILIES for kind in family.MODEL_TYPES}
    config = files.read_json(path, "the config of a model")
    if not isinstance(config, dict):
        raise UserError(f"{path}: not the config of a model: expected an object")
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in by_type:
        raise UserError(f"{path}: expected the model_type {', '.join(by_type)}, found {kind!r}")
    return config, by_type[kind]


def read_huggingface(folder: str | os.PathLike) -> tuple[Parameters, ModelConfig]:
    """Our parameters and the config of a folder that `transformers` saved.

    Raises UserError, naming the parameter and both shapes, when one is missing, does not fit or is unknown.
    """
    folder = pathlib.Path(folder)
    description, family = _read_config(folder / "config.json")
    stored = _known(folder, read_tensors(folder), family)
    config = _config(folder / "config.json", description, stored, family)
    copies = list(family.copies(config))
    for name in copies:
        if name in stored and name != family.HEAD:
            stored.setdefault(family.EMBEDDING, stored[name])
    _check_copies(folder, stored, copies, family.EMBEDDING)
    names = {theirs: (ours, transposed) for theirs, ours, transposed in family.names(config)}
    if family.HEAD in names and description.get("tie_word_embeddings") and family.EMBEDDING in stored:
        stored.setdefault(family.HEAD, stored[family.EMBEDDING])  # tied, but not scaled
    parameters = {}
    for theirs, parameter in stored.items():
        if theirs in names:
            ours, transposed = names[theirs]
            parameters[ours] = _transpose(parameter) if transposed else parameter
        elif theirs not in (*copies, *family.UNUSED):
            parameters[theirs] = parameter  # for `check` to refuse
    file_names = {ours: theirs for theirs, (ours, _) in names.items()}
    check(str(folder), parameters, config, "config.json", file_names)
    return parameters, config


def _config(
    path: pathlib.Path, description: Mapping[str, Any], stored: Collection[str], family: Names
) -> ModelConfig:
    """The model that `config.json` describes; a UserError for values of another kind or out of range."""
    try:
        config = family.read_config(path, description, stored)
        check_fields(describe(config))
    except UserError as error:
        raise error if str(path) in str(error) else UserError(f"{path}: {error}") from None
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UserError(f"{path}: not the config of a {description['model_type']}: {error!r:.200}") from None
    return config


def _known(folder: pathlib.Path, stored: Mapping[str, Parameter], family: Names) -> dict[str, Parameter]:
    """The tensors by the names of `Names.names`, but for those that the family is without; says how many."""
    kept = {}
    for name, parameter in stored.items():
        for pattern, replacement in family.RENAMED.items():
            name = re.sub(f"^{pattern}", replacement, name)
        kept[name] = parameter
    for pattern, what in family.SKIPPED.items():
        skipped = [name for name in kept if re.match(pattern, name)]
        for name in skipped:
            del kept[name]
        if skipped:
            logger.warning("%s: %d tensors of %s are left out: %s, ...", folder, len(skipped), what, skipped[0])
    return kept


def _transpose(parameter: Parameter) -> Parameter:
    return Parameter(parameter.shape[::-1], lambda index: parameter.fetch(...).T[index])


def _check_copies(
    folder: pathlib.Path, stored: Mapping[str, Parameter], names: Collection[str], original: str
) -> None:
    """Refuses tensors that the family has only as copies of the embedding, and that are others in the files."""
    embedding = stored.get(original)
    for name in names:
        copy = stored.get(name)
        if copy is None or embedding is None or copy is embedding:
            continue
        if copy.shape != embedding.shape or not np.array_equal(copy.read(), embedding.read()):
            raise UserError(
                f"{folder}: {name} differs from {original}, which this architecture has in its place: the "
                "model was trained with two embeddings, or with an output layer that tie_word_embeddings denies"
            )


def write_huggingface(
    folder: str | os.PathLike,
    parameters: Parameters,
    config: ModelConfig,
    dtype: str = "float32",
    shard_bytes: int = 5 * 10**9,
    special_ids: Mapping[str, int] | None = None,
    generation: Mapping[str, Any] | None = None,
) -> None:
    """Writes a folder, made if need be, that transformers' `from_pretrained` reads.

    The parameters, one per layer, are read one at a time. `shard_bytes` of a file at most are transformers' own
    default; bfloat16 halves the files. `special_ids` are the vocabulary's, such as `eos_token_id`, where the
    family has none of its own; `generation` is what `generation_config.json` says beside such ids. Raises
    UserError when transformers has no such model.
    """
    (family,) = (family for family in FAMILIES if family.CONFIG is type(config))
    description = family.write_config(config) | {"torch_dtype": dtype, **(special_ids or {})}
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    theirs = {ours: (name, transposed) for name, ours, transposed in family.names(config)}
    # In the order of the source: a scanned run gives all layers of a parameter at once.
    tensors = {}
    for ours, parameter in parameters.items():
        name, transposed = theirs[ours]
        tensors[name] = _transpose(parameter) if transposed else parameter
    write_tensors(folder, tensors, dtype, shard_bytes)
    ids = {name: description[name] for name in _SPECIAL_IDS if name in description}
    ids |= generation or {}
    for name, content in (("config.json", description), ("generation_config.json", ids)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
