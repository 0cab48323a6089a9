"""The sizes of a mesh, what is sharded over its axes, and whether a model and a batch divide over it.

The mesh has three axes. Rows of a batch are spread over `data` and `fsdp`; parameters and the optimizer's
state over `fsdp` and `model`. A table of rules says which logical axis of an array (T5X's names, see
`models.layers`) goes to which axis of the mesh.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from distill_jax.config import TrainConfig
from distill_jax.errors import UserError
from distill_jax.models.config import ModelConfig

AXES = ("data", "fsdp", "model")
Rules = tuple[tuple[str, str | tuple[str, ...] | None], ...]
Sizes = Mapping[str, int]

_ROWS: Rules = (("batch", ("data", "fsdp")),)
_TENSOR: Rules = tuple((name, "model") for name in ("vocab", "mlp", "heads", "joined_kv", "kv_heads"))
_FSDP: Rules = (("embed", "fsdp"),)

# The table of each preset, and the axis that takes all devices where no mesh is given.
PRESETS: dict[str, tuple[Rules, str]] = {
    "data_parallel": (_ROWS, "data"),
    "fully_sharded": (_ROWS + _FSDP, "fsdp"),
    "tensor_parallel": (_ROWS + _TENSOR, "model"),
    "fully_sharded_tensor_parallel": (_ROWS + _TENSOR + _FSDP, "data"),
}
_MESH, _PARTITIONING, _BATCH_SIZE = map(TrainConfig.named, ("mesh", "partitioning", "batch_size"))
DEFAULT = "fully_sharded_tensor_parallel"


def describe(sizes: Sizes) -> str:
    """`data=8,fsdp=4,model=1`."""
    return ",".join(f"{axis}={sizes[axis]}" for axis in AXES)


def table(partitioning: str | Sequence) -> Rules:
    """The table of a preset, or the user's own pairs (logical axis, mesh axis or axes or None).

    Raises:
      UserError: for an unknown preset or mesh axis.
    """
    if isinstance(partitioning, str):
        if partitioning not in PRESETS:
            raise UserError(f"{_PARTITIONING} {partitioning!r} is none of {', '.join(PRESETS)}")
        return PRESETS[partitioning][0]
    rules = tuple((name, tuple(to) if isinstance(to, list) else to) for name, to in partitioning)
    unknown = [(name, axis) for name, to in rules for axis in _axes(to) if axis not in AXES]
    for name, axis in unknown:
        raise UserError(f"{_PARTITIONING}: {name!r} goes to {axis!r}, which is none of {', '.join(AXES)}")
    return rules


def mesh_sizes(mesh: Sizes | None, partitioning: str | Sequence, device_count: int) -> dict[str, int]:
    """The size of every mesh axis.

    Of the given sizes one may be -1, for the devices (of all hosts) that remain; axes not named have size 1.
    Without a mesh all devices are on the preset's axis, or `data`.

    Raises:
      UserError: for an unknown axis or size. The product is checked by `check`.
    """
    if mesh is None:
        mesh = {PRESETS[partitioning][1] if isinstance(partitioning, str) else "data": -1}
    sizes = {axis: mesh.get(axis, 1) for axis in AXES}
    for axis, size in mesh.items():
        if axis not in AXES:
            raise UserError(f"{_MESH} {dict(mesh)}: unknown axis {axis!r}: there are {', '.join(AXES)}")
        if not isinstance(size, int) or (size < 1 and size != -1):
            raise UserError(f"{_MESH} {dict(mesh)}: {axis} must be a number from 1, or -1 for what is left")
    open_axes = [axis for axis, size in sizes.items() if size == -1]
    if len(open_axes) > 1:
        raise UserError(f"{_MESH} {dict(mesh)}: only one axis can be -1")
    for axis in open_axes:
        others = math.prod(size for size in sizes.values() if size != -1)
        sizes[axis] = max(device_count // others, 1)
    return sizes


def _axes(to: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if to is None else (to,) if isinstance(to, str) else to


def _misfit(
    sizes: Sizes,
    rules: Rules,
    config: ModelConfig,
    batch_size: int,
    microbatches: int,
    devices: int,
    hosts: int,
) -> str | None:
    """Why a mesh cannot be used; None if it can."""
    product = math.prod(sizes.values())
    if product != devices:
        return f"its product is {product}, but there are {devices} device(s)"
    used = {axis for _, to in rules for axis in _axes(to)}
    for axis, size in sizes.items():
        if size > 1 and axis not in used:
            return f"nothing is spread over {axis}={size} by this {_PARTITIONING}"
    dims = config.sharded_sizes()
    for name, to in rules:
        parts = math.prod(sizes[axis] for axis in _axes(to))
        for label, dim in dims.get(name, ()):
            if dim is not None and dim % parts:
                return f"{'*'.join(_axes(to))}={parts} does not divide {label} {dim}"
    shards = batch_shards(sizes, rules)
    if batch_size % (shards * microbatches):
        needed = f"{shards} shard(s) of rows and {microbatches} microbatch(es)"
        return f"{_BATCH_SIZE} {batch_size} does not divide over {needed}"
    if batch_size % hosts:
        return f"{_BATCH_SIZE} {batch_size} does not divide over {hosts} hosts"
    return None


def batch_shards(sizes: Sizes, rules: Rules) -> int:
    """The number of shards of a batch's rows."""
    return math.prod(sizes[axis] for axis in _axes(dict(rules).get("batch")))


def batch_unit(sizes: Sizes, rules: Rules, microbatches: int, hosts: int) -> int:
    """What the rows of a batch must be a multiple of."""
    return math.lcm(batch_shards(sizes, rules) * microbatches, hosts)


def valid_meshes(
    rules: Rules, config: ModelConfig, batch_size: int, microbatches: int, device_count: int, hosts: int = 1
) -> Iterator[dict[str, int]]:
    """Every mesh of `device_count` devices that the model and the batch divide over."""
    divisors = [n for n in range(1, device_count + 1) if device_count % n == 0]
    for data, fsdp in itertools.product(divisors, divisors):
        if device_count % (data * fsdp):
            continue
        sizes = dict(zip(AXES, (data, fsdp, device_count // (data * fsdp)), strict=True))
        if _misfit(sizes, rules, config, batch_size, microbatches, device_count, hosts) is None:
            yield sizes


def check(
    sizes: Sizes,
    rules: Rules,
    config: ModelConfig,
    batch_size: int,
    microbatches: int,
    devices: int,
    hosts: int,
) -> None:
    """Refuses a mesh that cannot be used, before anything is compiled.

    `batch_size` (in rows) and `devices` are those of all hosts; each host reads its share of a batch.

    Raises:
      UserError: says why, and names the nearest meshes or batch sizes that can be used.
    """
    reason = _misfit(sizes, rules, config, batch_size, microbatches, devices, hosts)
    if reason is None:
        return
    unit = batch_unit(sizes, rules, microbatches, hosts)
    nearest_batch = max(1, round(batch_size / unit)) * unit
    if reason.startswith(_BATCH_SIZE):
        reason += f": the nearest that does is {nearest_batch}"

    def distance(other: Sizes) -> float:
        return sum(abs(math.log2(other[axis] / sizes[axis])) for axis in AXES)

    near = sorted(valid_meshes(rules, config, batch_size, microbatches, devices, hosts), key=distance)
    hint = "no mesh can be used with this batch size"
    if near:
        hint = f"the nearest meshes that can be used: {'; '.join(map(describe, near[:3]))}"
    raise UserError(f"{_MESH} {describe(sizes)}: {reason}; {hint}")
