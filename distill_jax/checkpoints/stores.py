"""Arrays in TensorStore, opened as `Parameter`s and written piece by piece."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorstore as ts

from distill_jax.checkpoints.other_formats.parameters import Parameter
from distill_jax.errors import UserError

CHUNK_BYTES = 64 * 1024 * 1024  # as T5X writes


def reason(error: Exception) -> str:
    """TensorStore's message on one line, without the spec it ends with."""
    return " ".join(str(error).split(" [tensorstore_spec=")[0].split())


class ArrayReader:
    """Opens the arrays of the checkpoint `where`, whose names of parameters have a prefix such as `target`."""

    def __init__(self, where: str, prefix: str):
        self._where, self._prefix = where, prefix
        # A run with scanned layers stores all layers of a parameter in one chunk. Layers are read one after the
        # other, so the last chunk is cached.
        self._cached: tuple[str, np.ndarray] | None = None

    def open(self, name: str, spec: dict[str, Any], shape: Sequence[int] | None = None) -> Parameter:
        """The array that a TensorStore spec describes; UserError when it is not there, or holds no floats.

        Messages state our `name` of it, and the `shape` that the checkpoint's metadata may have.
        """
        # Without this a lost chunk reads as zeros.
        spec = {**spec, "fill_missing_data_reads": False}
        try:
            store = ts.open(ts.Spec(spec), open=True).result()
        except ValueError as error:
            stored = f"{self._prefix}.{name.replace('/', '.')} there"
            stored += f", of shape {list(shape)}" if shape is not None else ""
            raise UserError(
                f"{self._where}: parameter {name} ({stored}) cannot be opened, the checkpoint is not whole: "
                f"{reason(error)}"
            ) from None
        if store.dtype.numpy_dtype.kind != "f" and store.dtype.name != "bfloat16":
            raise UserError(
                f"{self._where}: parameter {name} {list(store.shape)} has the type {store.dtype.name}, "
                "expected floats (T5X before June 2021 wrote bfloat16 as uint16: save the checkpoint again "
                "with a later one)"
            )

        def fetch(index):
            chunk = store.chunk_layout.read_chunk.shape
            if index is not ... and chunk and chunk[0] > 1:
                return self._whole(name, store)[index]
            return self._read(name, store[index])

        return Parameter(tuple(store.shape), fetch)

    def _whole(self, name: str, store: ts.TensorStore) -> np.ndarray:
        if self._cached is None or self._cached[0] != name:
            self._cached = None  # before the next is read: each may be gigabytes
            self._cached = name, self._read(name, store)
        return self._cached[1]

    def _read(self, name: str, store: ts.TensorStore) -> np.ndarray:
        try:
            return store.read().result()
        except ValueError as error:
            raise UserError(
                f"{self._where}: parameter {name} {list(store.shape)} cannot be read, the checkpoint is not "
                f"whole: {reason(error)}"
            ) from None


def chunk_shape(shape: tuple[int, ...], itemsize: int, first: int | None = None) -> list[int]:
    """The largest chunk of a parameter within `CHUNK_BYTES` whose sides divide its sides, as T5X requires.

    Entries have `itemsize` bytes. The longest sides are divided first; that of the first axis is `first` where
    it is given: 1 for stacked layers.
    """
    sides = list(shape) if first is None else [first, *shape[1:]]
    while np.prod(sides) * itemsize > CHUNK_BYTES and max(sides) > 1:
        axis = int(np.argmax(sides))
        smaller = range(sides[axis] - 1, 0, -1)
        sides[axis] = next(side for side in smaller if shape[axis] % side == 0)
    return sides
