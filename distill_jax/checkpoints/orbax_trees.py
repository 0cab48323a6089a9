"""Orbax's PyTree folders: read array by array, written without holding more than one.

Both our runs (`checkpoints/<step>/state`) and T5X's (`checkpoint_<step>/state`) are such folders, with OCDBT
(all arrays in one key-value store) or without (a folder an array).
"""

import json
import pathlib
import threading
from collections.abc import Mapping
from typing import Any

import flax.serialization
import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from flax import traverse_util

from distill_jax import files
from distill_jax.checkpoints.layout import STATE
from distill_jax.checkpoints.other_formats.parameters import Parameter, Parameters, Stacked
from distill_jax.checkpoints.stores import CHUNK_BYTES, ArrayReader
from distill_jax.errors import UserError

_PLACEHOLDER = "PLACEHOLDER://"  # of Orbax before 2024, in the msgpack file
# Held while a save is begun. Orbax tells the threads of a save by the number of the save that the process began
# last: where two threads begin one each, a save does not wait for its own folder, or waits for ever.
BEGINNING = threading.Lock()


def is_tree(folder: pathlib.Path) -> bool:
    """Whether Orbax wrote this folder."""
    return (folder / "_METADATA").exists() or (folder / "manifest.ocdbt").exists()


Leaves = dict[tuple[str, ...], list[int] | None]  # keys, and shapes where the metadata has them


def _described(folder: pathlib.Path) -> tuple[Leaves, bool]:
    """All leaves, and whether they are Zarr 3."""
    path = folder / "_METADATA"
    try:
        metadata = json.loads(path.read_text())
        leaves = {
            tuple(str(k["key"]) for k in leaf["key_metadata"]): leaf["value_metadata"].get("write_shape")
            for leaf in metadata["tree_metadata"].values()
        }
        if odd := next((key for key in leaves if files.leads_out(".".join(key))), None):
            raise ValueError(f"{odd} is no name of an array in there")
        return leaves, metadata.get("use_zarr3", False)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: the checkpoint is not whole") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not the metadata of an Orbax checkpoint: {error!r}") from None


def _placeholders(folder: pathlib.Path) -> Leaves:
    """The leaves that an old Orbax kept apart from its msgpack file."""
    path = folder / "checkpoint"
    try:
        tree = flax.serialization.msgpack_restore(path.read_bytes())
        leaves = traverse_util.flatten_dict(tree)
    except Exception as error:  # msgpack raises many kinds
        raise UserError(f"{path}: not a whole msgpack file: {error}") from None
    return {k: None for k, leaf in leaves.items() if isinstance(leaf, str) and leaf.startswith(_PLACEHOLDER)}


def _leaves(folder: pathlib.Path) -> tuple[Leaves, bool]:
    old = (folder / "checkpoint").exists() and not (folder / "_METADATA").exists()
    return (_placeholders(folder), False) if old else _described(folder)


def names_in(folder: pathlib.Path) -> list[str]:
    """The names of all arrays; none is opened. Raises UserError when the metadata cannot be read."""
    return ["/".join(key) for key in _leaves(folder)[0]]


def read_tree(folder: pathlib.Path, prefix: str | None) -> Parameters:
    """The arrays under `prefix` (`target`, `params`), by their names below it; nothing else is opened.

    With None it is all arrays. Raises UserError when there are none, or one cannot be opened.
    """
    leaves, zarr3 = _leaves(folder)
    wanted = {key: shape for key, shape in leaves.items() if prefix in (None, key[0])}
    if not wanted:
        prefixes = sorted({key[0] for key in leaves})
        raise UserError(f"{folder}: no {prefix} in there, only {', '.join(prefixes) or 'nothing'}")
    reader = ArrayReader(str(folder), prefix or "tree")
    root, ocdbt = f"{folder.absolute()}/", (folder / "manifest.ocdbt").exists()
    kvstore = {"driver": "ocdbt", "base": {"driver": "file", "path": root}} if ocdbt else {"driver": "file"}
    parameters = {}
    for key, shape in wanted.items():
        path = ("" if ocdbt else root) + ".".join(key) + "/"
        spec = {"driver": "zarr3" if zarr3 else "zarr", "kvstore": {**kvstore, "path": path}}
        name = "/".join(key if prefix is None else key[1:])
        parameters[name] = reader.open(name, spec, shape)
    return parameters


class _Lazy:
    """A leaf of the tree to save: what Orbax needs to know of an array, and its pieces."""

    dtype = np.dtype(np.float32)

    def __init__(self, parameter: Parameter | Stacked, order: int):
        self.order, self.by_layer = order, isinstance(parameter, Stacked)
        self.pieces, self.shape = parameter.pieces, parameter.shape
        self.size = int(np.prod(self.shape))
        self.nbytes = self.size * self.dtype.itemsize


class _LazyHandler(ocp.type_handlers.NumpyHandler):
    """Saves leaves one after the other, `_Lazy` ones piece by piece, as the numpy arrays they stand for.

    Nothing is saved in the background: a parameter that cannot be read ends the save at once.
    """

    async def serialize(self, values, infos, args=None):
        leaves = zip(values, infos, args or [ocp.SaveArgs()] * len(values), strict=True)
        # In the order of the source: a scanned run gives all layers of a parameter at once.
        for value, info, arg in sorted(leaves, key=lambda leaf: getattr(leaf[0], "order", -1)):
            for future in await super().serialize([value], [info], [arg]):
                future.result()
        return []

    async def _open_and_write(self, value, tspec, ts_context):
        store = await ts.open(ts.Spec(tspec), create=True, open=True, context=ts_context)
        pieces = value.pieces() if isinstance(value, _Lazy) else [(..., value)]
        for index, piece in pieces:
            await store[index].write(piece)


def write_tree(
    directory: pathlib.Path,
    step: int,
    prefix: str,
    parameters: Mapping[str, Parameter | Stacked],
    others: Mapping[str, Any],
    *,
    step_prefix: str | None = None,
    ocdbt: bool = True,
) -> None:
    """Writes `<directory>/[<step_prefix>_]<step>/state`; one parameter at a time is read.

    `parameters` are by their names below `prefix`: `target` for T5X, `params` for ours; `others` are further
    top-level entries, such as the step. With `ocdbt` all arrays are in one key-value store, else a folder each.
    """
    leaves = {name: _Lazy(parameter, order) for order, (name, parameter) in enumerate(parameters.items())}
    lazy_handler = _LazyHandler(deepcopy_host_arrays=False)
    handlers = ocp.type_handlers.create_type_handler_registry(
        (_Lazy, lazy_handler),
        (np.ndarray, lazy_handler),
        (jax.Array, ocp.type_handlers.ArrayHandler()),  # none here, but Orbax warns without it
    )
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=ocdbt, type_handler_registry=handlers)

    def save_args(leaf) -> ocp.SaveArgs:
        if isinstance(leaf, _Lazy) and leaf.by_layer:
            return ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES, shard_axes=(0,))
        return ocp.SaveArgs()

    tree = {**others, prefix: traverse_util.unflatten_dict(leaves, sep="/")}
    options = ocp.CheckpointManagerOptions(step_prefix=step_prefix, enable_async_checkpointing=False)
    with ocp.CheckpointManager(directory, options=options, item_handlers={STATE: handler}) as manager:
        save = ocp.args.PyTreeSave(tree, save_args=jax.tree.map(save_args, tree))
        with BEGINNING:
            manager.save(step, args=ocp.args.Composite(**{STATE: save}))
