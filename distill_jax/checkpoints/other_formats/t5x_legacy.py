"""T5X's own checkpoints: a msgpack file with the tree, and a Zarr array a parameter.

In `checkpoint_<step>/checkpoint` a parameter is the spec of its array, `{"driver": "zarr", "kvstore":
{"driver": …, "path": "target.encoder…"}, "metadata": …}`, with a path relative to the folder and the driver of
the machine that wrote it (`gfile`, `gcs` or `file`); small things are arrays in the file itself.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import flax.serialization
import numpy as np
import tensorstore as ts
from flax import traverse_util

from distill_jax import files
from distill_jax.checkpoints.other_formats.parameters import Parameter, Parameters, Stacked
from distill_jax.checkpoints.stores import ArrayReader, chunk_shape
from distill_jax.errors import UserError

VERSION = 3  # T5X's, since June 2021
_TENSORFLOW = b"model_checkpoint_path"


def _restore(path: pathlib.Path) -> Mapping[str, Any]:
    content = path.read_bytes()
    if content.startswith(_TENSORFLOW):
        raise UserError(
            f"{path}: a TensorFlow checkpoint of the T5 library: convert it with "
            "t5x.scripts.convert_tf_checkpoint, or take the same model from gs://t5-data/pretrained_models/t5x"
        )
    try:
        tree = flax.serialization.msgpack_restore(content)
    except Exception as error:  # msgpack raises many kinds
        raise UserError(f"{path}: not a whole msgpack file: {error}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: not a T5X checkpoint: expected a tree, found {type(tree).__name__}")
    tree = tree.get("optimizer", tree)
    if not isinstance(tree, dict):
        raise UserError(f"{path}: optimizer: expected a tree, found {type(tree).__name__}")
    return tree


def _is_leaf(_, value: Any) -> bool:
    return isinstance(value, dict) and {"driver", "kvstore"} <= value.keys()


def read_legacy(folder: pathlib.Path) -> Parameters:
    """The parameters (`target`) of `checkpoint_<step>`; the optimizer's state is not opened.

    Raises UserError when it is no T5X checkpoint, or a parameter is not there.
    """
    path = folder / "checkpoint"
    tree = _restore(path)
    if not isinstance(tree.get("target"), dict):
        raise UserError(f"{path}: no target in there, only {', '.join(map(str, tree)) or 'nothing'}")
    reader = ArrayReader(str(folder), "target")
    parameters = {}
    for name, leaf in traverse_util.flatten_dict(tree["target"], is_leaf=_is_leaf, sep="/").items():
        if isinstance(leaf, dict):
            spec = _local_spec(path, name, leaf, folder)
            parameters[name] = reader.open(name, spec, spec["metadata"].get("shape"))
        elif isinstance(leaf, np.ndarray):
            parameters[name] = Parameter(leaf.shape, lambda index, leaf=leaf: leaf[index])
        else:
            kind = type(leaf).__name__
            raise UserError(f"{path}: parameter {name} is a {kind}, expected an array or its spec")
    return parameters


def _local_spec(path: pathlib.Path, name: str, spec: Mapping[str, Any], folder: pathlib.Path) -> dict[str, Any]:
    """The spec with an absolute path; its chunks and compressor are left to the array's own metadata."""
    kvstore, described = spec["kvstore"], spec.get("metadata")
    where = kvstore.get("path", spec.get("path")) if isinstance(kvstore, dict) else None  # 0.1.13: beside it
    if spec["driver"] != "zarr" or not isinstance(where, str) or files.leads_out(where.strip("/")):
        raise UserError(f"{path}: parameter {name}: no spec of a Zarr array beside the file: {spec}")
    local = {"driver": "file", "path": f"{folder.absolute() / where.strip('/')}/"}
    shape = described.get("shape") if isinstance(described, dict) else None
    metadata = {} if shape is None else {"shape": shape}
    return {"driver": "zarr", "kvstore": local, "metadata": metadata}


def write_legacy(folder: pathlib.Path, step: int, parameters: Mapping[str, Parameter | Stacked]) -> None:
    """Writes a new `checkpoint_<step>`: parameters and step, no optimizer's state; one parameter is held."""
    folder.mkdir(parents=True)
    specs = {}
    for name, parameter in parameters.items():
        path = f"target.{name.replace('/', '.')}/"
        chunks = chunk_shape(parameter.shape, 4, 1 if isinstance(parameter, Stacked) else None)
        compressor = {"id": "gzip", "level": 1}
        metadata = {"chunks": chunks, "compressor": compressor, "shape": list(parameter.shape)}
        spec = {"driver": "zarr", "dtype": "float32", "metadata": metadata}
        specs[name] = {**spec, "kvstore": {"driver": "file", "path": path}}
        spec["kvstore"] = {"driver": "file", "path": f"{folder.absolute()}/{path}"}
        # A chunk of zeros is written too: one that is missing is one that was lost.
        store = ts.open(spec | {"store_data_equal_to_fill_value": True}, create=True).result()
        for index, piece in parameter.pieces():
            store[index].write(piece).result()
    target = traverse_util.unflatten_dict(specs, sep="/")
    tree = {"version": VERSION, "optimizer": {"target": target, "state": {"step": np.asarray(step, np.int32)}}}
    (folder / "checkpoint").write_bytes(flax.serialization.msgpack_serialize(tree))
