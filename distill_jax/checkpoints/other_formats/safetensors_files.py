"""The tensors of a Hugging Face folder: `model.safetensors`, or several files and their index."""

import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors

from distill_jax import files
from distill_jax.checkpoints.other_formats.parameters import Parameter, Parameters
from distill_jax.config.json_types import require_known
from distill_jax.errors import UserError

INDEX = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
ADAPTER = "adapter_config.json"
_DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


def refuse_pickles(paths: Iterable[str | os.PathLike]) -> None:
    """Raises a UserError that says what to do instead when one of them is a pickle: it is never opened."""
    for path in sorted(path for path in map(str, paths) if path.endswith(PICKLES)):
        raise UserError(
            f"{path}: a pickle can run code and is not read; where transformers and torch are, save the model "
            'again as safetensors: python -c "from transformers import T5ForConditionalGeneration as T; '
            f"T.from_pretrained('{pathlib.Path(path).parent}').save_pretrained('safetensors')\""
        )


def refuse_adapter(folder: pathlib.Path) -> None:
    """Raises a UserError that names a LoRA adapter's base model."""
    try:
        base = files.read_json(folder / ADAPTER).get("base_model_name_or_path")
    except (UserError, AttributeError):
        base = None
    raise UserError(
        f"{folder}: a LoRA adapter of {base or 'another model'}, not a whole model: merge it first, where peft "
        "is: model.merge_and_unload().save_pretrained('merged')"
    )


def read_tensors(folder: pathlib.Path) -> dict[str, Parameter]:
    """Opens all tensors of a folder, by the names they have there.

    Raises UserError when there are none, or a file is broken, a pickle or an adapter.
    """
    tensors: dict[str, Parameter] = {}
    for path in _files(folder):
        tensors |= _stored(path)
    if any(".lora_" in name for name in tensors):
        refuse_adapter(folder)
    return tensors


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    index = folder / INDEX
    if index.exists():
        described = files.read_json(index, "an index of safetensors files")
        try:
            require_known(described, {"weight_map": dict[str, str]})
        except UserError as error:
            raise UserError(f"{index}: not an index of safetensors files: {error}") from None
        names = sorted(set(described["weight_map"].values()))
        for name in names:
            if not name.endswith(".safetensors") or pathlib.PurePath(name).name != name:
                raise UserError(f"{index}: {name!r} is not a safetensors file beside it")
        return [folder / name for name in names]
    if (folder / "model.safetensors").exists():
        return [folder / "model.safetensors"]
    if (folder / ADAPTER).exists():
        refuse_adapter(folder)
    refuse_pickles(folder.iterdir())
    raise UserError(f"{folder}: no model.safetensors in there")


def _stored(path: pathlib.Path) -> dict[str, Parameter]:
    """Their name -> parameter as it is stored in a file."""

    def fetch(name: str, index: Any) -> np.ndarray:
        # Opened each time: a mapped file would count all it has read as this process's memory.
        with safetensors.safe_open(path, framework="numpy") as file:
            return file.get_tensor(name) if index is ... else file.get_slice(name)[index]

    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            parameters = {}
            for name in file.keys():
                view = file.get_slice(name)
                if view.get_dtype() not in ("F64", *_DTYPES.values()):
                    raise UserError(f"{path}: {name} is stored as {view.get_dtype()}, expected floats")
                shape = tuple(view.get_shape())
                parameters[name] = Parameter(shape, lambda index, name=name: fetch(name, index))
            return parameters
    except FileNotFoundError:
        raise UserError(f"{path}: no such file: the checkpoint is not whole") from None
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a whole safetensors file: {_first_cut(path) or error}") from None


def _first_cut(path: pathlib.Path) -> str | None:
    """What a file that is too short lacks first; None when it is broken otherwise."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length < path.stat().st_size else {}
        header.pop("__metadata__", None)
        size = path.stat().st_size - 8 - length
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            begin, end = entry["data_offsets"]
            if end > size:
                left = max(size - begin, 0)
                return f"{name} of shape {entry['shape']} should have {end - begin} bytes, there are {left}"
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, OSError):
        return None  # the header is no header
    return None


def write_tensors(folder: pathlib.Path, tensors: Parameters, dtype: str, shard_bytes: int) -> None:
    """Writes `model.safetensors`, or several files and their index, in an existing folder.

    Tensors are read one at a time, in their order, and stored as float32, bfloat16 or float16. A file has
    `shard_bytes` at most, but for a tensor that is larger.
    """
    itemsize = jnp.dtype(dtype).itemsize
    shards = _shards({name: tensor.shape for name, tensor in tensors.items()}, itemsize, shard_bytes)
    for file_name, names in shards:
        _write_shard(folder / file_name, {name: tensors[name] for name in names}, dtype)
    if len(shards) > 1:
        total = sum(math.prod(tensor.shape) for tensor in tensors.values()) * itemsize
        weight_map = {name: file_name for file_name, names in shards for name in names}
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _shards(shapes: Mapping[str, tuple[int, ...]], itemsize: int, limit: int) -> list[tuple[str, list[str]]]:
    """(file name, names) of each file."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, shape in shapes.items():
        nbytes = math.prod(shape) * itemsize
        if shards[-1] and size + nbytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += nbytes
    count = len(shards)
    if count == 1:
        return [("model.safetensors", shards[0])]
    return [(f"model-{n:05}-of-{count:05}.safetensors", shard) for n, shard in enumerate(shards, 1)]


def _write_shard(path: pathlib.Path, tensors: Parameters, dtype: str) -> None:
    """Writes a safetensors file tensor by tensor; the library's own writer wants all of them at once."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    numpy_dtype, offset = jnp.dtype(dtype), 0
    for name, tensor in tensors.items():
        end = offset + math.prod(tensor.shape) * numpy_dtype.itemsize
        header[name] = {"dtype": _DTYPES[dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for tensor in tensors.values():
            array = tensor.read().astype(numpy_dtype, order="C", copy=False)
            file.write(array.view(np.uint8).data)
