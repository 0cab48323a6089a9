"""The device mesh of a run, and where the state and a batch lie on it.

The mesh has three axes. Rows of a batch are spread over `data` and `fsdp`; parameters and the optimizer's
state over `fsdp` and `model`. A table says which logical axis of an array (T5X's names, see `models.layers`)
goes to which axis of the mesh.
"""

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax.core import unfreeze
from flax.linen import partitioning as flax_partitioning
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from distill_jax.errors import UserError
from distill_jax.models.config import T5Config

AXES = ("data", "fsdp", "model")
Rules = tuple[tuple[str, str | tuple[str, ...] | None], ...]

_ROWS: Rules = (("batch", ("data", "fsdp")),)
_TENSOR: Rules = (("vocab", "model"), ("mlp", "model"), ("heads", "model"), ("joined_kv", "model"))
_FSDP: Rules = (("embed", "fsdp"),)

# The table of each preset, and the axis that all devices lie on where no mesh is given.
PRESETS: dict[str, tuple[Rules, str]] = {
    "data_parallel": (_ROWS, "data"),
    "fully_sharded": (_ROWS + _FSDP, "fsdp"),
    "tensor_parallel": (_ROWS + _TENSOR, "model"),
    "fully_sharded_tensor_parallel": (_ROWS + _TENSOR + _FSDP, "data"),
}
DEFAULT = "fully_sharded_tensor_parallel"


def parse_mesh(text: str) -> dict[str, int]:
    """Reads `data=8,fsdp=4`.

    Raises:
      UserError: for anything else.
    """
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {name.strip(): int(size) for name, size in pairs}
    except ValueError:
        raise UserError(f"mesh {text!r}: expected AXIS=N, commas between them: data=8,fsdp=4,model=2") from None


def describe(sizes: Mapping[str, int]) -> str:
    """The inverse of `parse_mesh`."""
    return ",".join(f"{axis}={sizes[axis]}" for axis in AXES)


def table(partitioning: str | Sequence) -> Rules:
    """The table of a preset, or the user's own pairs (logical axis, mesh axis or axes or None).

    Raises:
      UserError: for an unknown preset or mesh axis.
    """
    if isinstance(partitioning, str):
        if partitioning not in PRESETS:
            raise UserError(f"PARTITIONING {partitioning!r} is none of {', '.join(PRESETS)}")
        return PRESETS[partitioning][0]
    rules = tuple((name, tuple(to) if isinstance(to, list) else to) for name, to in partitioning)
    for name, to in rules:
        for axis in _axes(to):
            if axis not in AXES:
                raise UserError(f"PARTITIONING: {name!r} goes to {axis!r}, which is none of {', '.join(AXES)}")
    return rules


def mesh_sizes(
    mesh: Mapping[str, int] | None, partitioning: str | Sequence, device_count: int
) -> dict[str, int]:
    """The size of every mesh axis.

    Args:
      mesh: sizes by axis, one of them -1 for the devices that are left; axes not named have size 1. None
        puts all devices on the preset's axis, or `data`.
      partitioning: of `table`.
      device_count: of all hosts.

    Raises:
      UserError: for an unknown axis or size. The product is checked by `check`.
    """
    if mesh is None:
        axis = PRESETS[partitioning][1] if isinstance(partitioning, str) else "data"
        mesh = {axis: -1}
    sizes = {axis: mesh.get(axis, 1) for axis in AXES}
    for axis, size in mesh.items():
        if axis not in AXES:
            raise UserError(f"MESH {dict(mesh)}: unknown axis {axis!r}: there are {', '.join(AXES)}")
        if not isinstance(size, int) or (size < 1 and size != -1):
            raise UserError(f"MESH {dict(mesh)}: {axis} must be a number from 1, or -1 for what is left")
    open_axes = [axis for axis, size in sizes.items() if size == -1]
    if len(open_axes) > 1:
        raise UserError(f"MESH {dict(mesh)}: only one axis can be -1")
    for axis in open_axes:
        others = math.prod(size for size in sizes.values() if size != -1)
        sizes[axis] = max(device_count // others, 1)
    return sizes


def _axes(to: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if to is None else (to,) if isinstance(to, str) else to


def _misfit(
    sizes: Mapping[str, int],
    rules: Rules,
    config: T5Config,
    batch_size: int,
    microbatches: int,
    device_count: int,
    hosts: int,
) -> str | None:
    """Why a mesh cannot be used; None if it can."""
    product = math.prod(sizes.values())
    if product != device_count:
        return f"its product is {product}, but there are {device_count} device(s)"
    used = {axis for _, to in rules for axis in _axes(to)}
    for axis, size in sizes.items():
        if size > 1 and axis not in used:
            return f"nothing is spread over {axis}={size} by this PARTITIONING"
    dims = {
        "embed": ("emb_dim", config.emb_dim),
        "heads": ("num_heads", config.num_heads),
        "joined_kv": ("num_heads", config.num_heads),
        "mlp": ("mlp_dim", config.mlp_dim),
        "vocab": ("VOCAB_SIZE", config.vocab_size),
    }
    for name, to in rules:
        if name in dims:
            label, dim = dims[name]
            parts = math.prod(sizes[axis] for axis in _axes(to))
            if dim is not None and dim % parts:
                return f"{'*'.join(_axes(to))}={parts} does not divide {label} {dim}"
    shards = batch_shards(sizes, rules)
    if batch_size % (shards * microbatches):
        return (
            f"BATCH_SIZE {batch_size} does not divide over {shards} shard(s) of rows and {microbatches} "
            "microbatch(es)"
        )
    if batch_size % hosts:
        return f"BATCH_SIZE {batch_size} does not divide over {hosts} hosts"
    return None


def batch_shards(sizes: Mapping[str, int], rules: Rules) -> int:
    """How many parts the rows of a batch are spread over."""
    return math.prod(sizes[axis] for axis in _axes(dict(rules).get("batch")))


def valid_meshes(
    rules: Rules, config: T5Config, batch_size: int, microbatches: int, device_count: int, hosts: int = 1
) -> Iterator[dict[str, int]]:
    """Every mesh of `device_count` devices that the model and the batch can be spread over."""
    divisors = [n for n in range(1, device_count + 1) if device_count % n == 0]
    for data, fsdp in itertools.product(divisors, divisors):
        if device_count % (data * fsdp):
            continue
        sizes = dict(zip(AXES, (data, fsdp, device_count // (data * fsdp)), strict=True))
        if _misfit(sizes, rules, config, batch_size, microbatches, device_count, hosts) is None:
            yield sizes


def check(
    sizes: Mapping[str, int],
    rules: Rules,
    config: T5Config,
    batch_size: int,
    microbatches: int,
    device_count: int,
    hosts: int = 1,
) -> None:
    """Refuses a mesh that cannot be used, before anything is compiled.

    Args:
      sizes: of the mesh axes.
      rules: the table.
      config: of the student.
      batch_size: rows of a global batch.
      microbatches: parts a batch is worked off in.
      device_count: of all hosts.
      hosts: processes, each of which reads its share of a batch.

    Raises:
      UserError: says why, and names the nearest meshes or batch sizes that can be used.
    """
    why = _misfit(sizes, rules, config, batch_size, microbatches, device_count, hosts)
    if why is None:
        return
    parts = math.lcm(batch_shards(sizes, rules) * microbatches, hosts)
    nearest_batch = max(1, round(batch_size / parts)) * parts
    if why.startswith("BATCH_SIZE"):
        why += f": the nearest that does is {nearest_batch}"

    def distance(other: Mapping[str, int]) -> float:
        return sum(abs(math.log2(other[axis] / sizes[axis])) for axis in AXES)

    near = sorted(valid_meshes(rules, config, batch_size, microbatches, device_count, hosts), key=distance)
    hint = "; ".join(describe(mesh) for mesh in near[:3])
    hint = (
        f"the nearest meshes that can be used: {hint}" if hint else "no mesh can be used with this batch size"
    )
    raise UserError(f"MESH {describe(sizes)}: {why}; {hint}")


@dataclasses.dataclass(frozen=True)
class Partitioner:
    """A mesh and the table of what is spread over it."""

    mesh: Mesh
    rules: Rules

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Makes both the ones that the model's constraints mean, while a step is traced and run."""
        with jax.set_mesh(self.mesh), flax_partitioning.axis_rules(self.rules):
            yield

    def sharding(self, *names: str | None) -> NamedSharding:
        """Where an array with these logical axes lies; none: on every device."""
        return NamedSharding(self.mesh, flax_partitioning.logical_to_mesh_axes(names, self.rules))

    @property
    def batch(self) -> NamedSharding:
        """Where the rows of a batch lie."""
        return self.sharding("batch")

    def params(self, model) -> Any:
        """The sharding of every parameter of `model`."""
        return jax.tree.map(
            lambda names: self.sharding(*names),
            logical_axes(model),
            is_leaf=lambda x: isinstance(x, PartitionSpec),
        )

    def state(self, shapes: Any, model) -> Any:
        """The sharding of every array of a train state.

        What the optimizer keeps for a parameter lies as the parameter does. Adafactor's factored moments,
        which lack one of its axes, lie as the axes that are left.

        Args:
          shapes: a `TrainState` of shapes.
          model: whose parameters it holds.
        """
        axes = {
            tuple(key.key for key in path): tuple(names)
            for path, names in jax.tree_util.tree_leaves_with_path(
                logical_axes(model), is_leaf=lambda x: isinstance(x, PartitionSpec)
            )
        }
        dims = {
            tuple(key.key for key in path): leaf.shape
            for path, leaf in jax.tree_util.tree_leaves_with_path(shapes.params)
        }

        def place(path, leaf) -> NamedSharding:
            keys = [getattr(key, "key", getattr(key, "name", None)) for key in path]
            for start in range(len(keys)):
                name = tuple(keys[start:])
                if name in axes:
                    kept = _kept_axes(axes[name], dims[name], leaf.shape, keys[:start])
                    return self.sharding(*kept)
            return self.sharding()

        return jax.tree_util.tree_map_with_path(place, shapes)

    def shapes(self, shapes: Any, model) -> Any:
        """A train state of shapes, with their shardings."""
        return jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            shapes,
            self.state(shapes, model),
        )

    def rows(self) -> tuple[int, int]:
        """(this host's share of the rows of a batch, how many shares there are).

        Hosts that the `model` axis joins read the same rows.
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
                f"MESH {describe(self.mesh.shape)} lays the rows of a batch across hosts: choose the axis "
                "`model` so that it divides the devices of a host, or is a multiple of them"
            )
        return shares.index(share), len(shares)


def _kept_axes(names: tuple, shape: tuple, kept: tuple, path: Sequence) -> tuple:
    """Logical axes of what an optimizer keeps for a parameter of `shape`, at `path` in its state."""
    if kept == shape:
        return names
    without = [n for n in range(len(shape)) if shape[:n] + shape[n + 1 :] == kept]
    if not without:
        return ()
    # Of two axes of the same size, optax drops the last for the row moments, the first for the column's.
    dropped = without[0] if "v_col" in path else without[-1]
    return names[:dropped] + names[dropped + 1 :]


def logical_axes(model) -> Any:
    """The tree of the parameters of `model`, with a PartitionSpec of logical axes for each."""
    tokens = jax.ShapeDtypeStruct((1, 8), np.int32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, x, x, enable_dropout=False), tokens)
    return unfreeze(flax_partitioning.get_axis_names(variables["params_axes"]))


def make_partitioner(
    config: T5Config,
    batch_size: int,
    microbatches: int,
    mesh: Mapping[str, int] | None = None,
    partitioning: str | Sequence = DEFAULT,
) -> Partitioner:
    """The mesh over all devices of all hosts, checked.

    Args:
      config: of the student.
      batch_size: rows of a global batch.
      microbatches: parts a batch is worked off in.
      mesh: of `mesh_sizes`.
      partitioning: of `table`.

    Raises:
      UserError: of `table`, `mesh_sizes` and `check`.
    """
    rules = table(partitioning)
    sizes = mesh_sizes(mesh, partitioning, jax.device_count())
    check(sizes, rules, config, batch_size, microbatches, jax.device_count(), jax.process_count())
    shape = tuple(sizes[axis] for axis in AXES)
    return Partitioner(jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 3), rules)


def check_model(place: Partitioner, config: T5Config, batch_size: int, microbatches: int) -> None:
    """Raises UserError unless a model with this config can be spread over the mesh."""
    check(
        place.mesh.shape,
        place.rules,
        config,
        batch_size,
        microbatches,
        place.mesh.size,
        jax.process_count(),
    )


def put(tree: Any, shardings: Any) -> Any:
    """Host arrays, the same on every host, -> global arrays; `shardings` is a tree or one for all."""
    if isinstance(shardings, NamedSharding):
        shardings = jax.tree.map(lambda _: shardings, tree)

    def place(x, sharding):
        return jax.make_array_from_callback(x.shape, sharding, lambda index: np.asarray(x)[index])

    return jax.tree.map(place, tree, shardings)


def local_copy(tree: Any) -> Any:
    """Global arrays -> a whole copy of them on the devices of each host, spread over these.

    For work that every host does on its own, such as decoding, whose many small steps must not wait for the
    network. With one host the arrays are left as they are.
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
