"""The shardings of a train state and of a batch over the devices of a mesh (its sizes: `training.mesh`)."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax.core import unfreeze
from flax.linen import partitioning as flax_partitioning
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from distill_jax.config import TrainConfig
from distill_jax.errors import UserError
from distill_jax.models.config import ModelConfig
from distill_jax.models.lora import Lora
from distill_jax.training import train_state
from distill_jax.training.mesh import (
    AXES,
    Rules,
    Sizes,
    batch_shards,
    batch_unit,
    check,
    describe,
    mesh_sizes,
    table,
)
from distill_jax.training.programs import remembered


@dataclasses.dataclass(frozen=True)
class Partitioner:
    """A mesh, and the table of which logical axis is sharded over which of its axes."""

    mesh: Mesh
    rules: Rules

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Puts both in force for the model's sharding constraints, while a step is traced and run."""
        with jax.set_mesh(self.mesh), flax_partitioning.axis_rules(self.rules):
            yield

    def sharding(self, *names: str | None) -> NamedSharding:
        """The sharding of an array with these logical axes; without any it is replicated."""
        return NamedSharding(self.mesh, flax_partitioning.logical_to_mesh_axes(names, self.rules))

    @property
    def batch(self) -> NamedSharding:
        """The sharding of a batch: by rows."""
        return self.sharding("batch")

    def params(self, model) -> Any:
        """The sharding of every parameter of `model`."""
        return jax.tree.map(lambda names: self.sharding(*names), logical_axes(model))

    def state(self, shapes: Any, model, lora: Lora | None = None) -> Any:
        """The sharding of every array of a train state; of adapters, where it has them, by their kernel's axes.

        The optimizer's moments are sharded as their parameter is. Adafactor's factored moments lack one of its
        axes, and are sharded by the axes that are left. `shapes` is a `TrainState` of shapes.
        """
        leaves = jax.tree_util.tree_leaves_with_path
        axes = {_names(path): tuple(names) for path, names in leaves(logical_axes(model, lora))}
        dims = {_names(path): leaf.shape for path, leaf in leaves(shapes.params)}

        def place(path, leaf) -> NamedSharding:
            keys = _names(path)
            for start in range(len(keys)):
                if (name := keys[start:]) in axes:
                    return self.sharding(*_moment_axes(axes[name], dims[name], leaf.shape, keys[:start]))
            return self.sharding()

        return jax.tree_util.tree_map_with_path(place, shapes)

    def shapes(self, shapes: Any, model, lora: Lora | None = None) -> Any:
        """A train state of shapes, with their shardings."""
        return jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            shapes,
            self.state(shapes, model, lora),
        )

    def batch_unit(self, microbatches: int) -> int:
        """What the rows of a batch must be a multiple of."""
        return batch_unit(self.mesh.shape, self.rules, microbatches, jax.process_count())

    def rows(self) -> tuple[int, int]:
        """(number of this host's share of the rows of a batch, how many shares there are).

        Hosts that the `model` axis joins read the same rows.

        Raises:
          UserError: when a host's rows would not be consecutive.
        """
        shards = batch_shards(self.mesh.shape, self.rules)
        own = {}
        for device, index in self.batch.devices_indices_map((shards,)).items():
            own.setdefault(device.process_index, set()).add(index[0].indices(shards)[0])
        shares = sorted({tuple(sorted(rows)) for rows in own.values()})
        share = tuple(sorted(own[jax.process_index()]))
        even = len({len(rows) for rows in shares}) == 1 and sum(map(len, shares)) == shards
        if not even or any(rows[-1] - rows[0] != len(rows) - 1 for rows in shares):
            raise UserError(
                f"{TrainConfig.named('mesh')} {describe(self.mesh.shape)} spreads the rows of a batch unevenly "
                "over hosts: choose the axis `model` so that it divides the devices of a host, or is a "
                "multiple of them"
            )
        return shares.index(share), len(shares)


def _names(path: Sequence) -> tuple:
    return tuple(getattr(key, "key", getattr(key, "name", None)) for key in path)


def _moment_axes(names: tuple, shape: tuple, moment_shape: tuple, path: Sequence) -> tuple:
    """Logical axes of the moment at `path` in an optimizer's state, of a parameter of `shape`."""
    if moment_shape == shape:
        return names
    without = [n for n in range(len(shape)) if shape[:n] + shape[n + 1 :] == moment_shape]
    if not without:
        return ()
    # Of two axes of the same size, optax drops the last for the row moments, the first for the column's.
    dropped = without[0] if "v_col" in path else without[-1]
    return names[:dropped] + names[dropped + 1 :]


@remembered
def logical_axes(model, lora: Lora | None = None) -> Any:
    """The parameters of `model`, or their adapters, as a tree with a PartitionSpec of logical axes for each."""
    axes = unfreeze(flax_partitioning.get_axis_names(train_state.axis_names(model)))
    return axes if lora is None else lora.axes(axes, PartitionSpec)


def make_partitioner(
    config: ModelConfig, batch_size: int, microbatches: int, mesh: Sizes | None, partitioning: str | Sequence
) -> Partitioner:
    """The mesh over all devices of all hosts; raises the UserErrors of `table`, `mesh_sizes` and `check`."""
    rules = table(partitioning)
    sizes = mesh_sizes(mesh, partitioning, jax.device_count())
    check(sizes, rules, config, batch_size, microbatches, jax.device_count(), jax.process_count())
    shape = tuple(sizes[axis] for axis in AXES)
    return Partitioner(jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 3), rules)


def check_model(place: Partitioner, config: ModelConfig, batch_size: int, microbatches: int) -> None:
    """Raises UserError unless a model with this config can be spread over the mesh."""
    check(place.mesh.shape, place.rules, config, batch_size, microbatches, place.mesh.size, jax.process_count())


def put(tree: Any, shardings: Any) -> Any:
    """Host arrays, the same on every host, -> global arrays; `shardings` is a tree of the same structure."""

    def place(x, sharding):
        return jax.make_array_from_callback(x.shape, sharding, lambda index: np.asarray(x)[index])

    return jax.tree.map(place, tree, shardings)


def local_copy(tree: Any) -> Any:
    """Global arrays -> a copy for each host, sharded over the devices of that host alone.

    For work that every host does on its own, such as decoding, whose many small steps must not wait for the
    network. With one host the arrays are returned as they are.
    """
    if jax.process_count() == 1:
        return tree
    devices = jax.local_devices()
    mesh = jax.make_mesh((len(devices),), ("local",), axis_types=(AxisType.Auto,), devices=devices)

    def copy(x: jax.Array) -> jax.Array:
        axes = [axis for axis, size in enumerate(x.shape) if size % len(devices) == 0]
        spec = [None] * x.ndim
        if axes:
            spec[max(axes, key=lambda axis: x.shape[axis])] = "local"
        whole = multihost_utils.process_allgather(x, tiled=True)
        return jax.device_put(whole, NamedSharding(mesh, PartitionSpec(*spec)))

    return jax.tree.map(copy, tree)


def put_batch(batch: dict[str, np.ndarray], partitioner: Partitioner) -> dict[str, jax.Array]:
    """This host's rows [batch / shares, length] -> global arrays [batch, length]."""
    return {
        name: jax.make_array_from_process_local_data(partitioner.batch, rows) for name, rows in batch.items()
    }


def batch_shapes(row: dict[str, np.ndarray], batch_size: int, partitioner: Partitioner) -> dict[str, Any]:
    """What `put_batch` gives of batches whose rows, [length], are as this one: global shapes with shardings."""
    return {
        name: jax.ShapeDtypeStruct((batch_size, *x.shape), x.dtype, sharding=partitioner.batch)
        for name, x in row.items()
    }
