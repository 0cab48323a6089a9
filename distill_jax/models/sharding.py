"""Sharding constraints of the model's arrays by the names of their axes; without a mesh they do nothing.

The names are T5X's. The table from names to mesh axes is the one in force, of
`flax.linen.partitioning.axis_rules`: that of `training.partitioning` in our engine, T5X's own in T5X.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from flax.linen.partitioning import get_axis_rules, logical_to_mesh_axes, with_sharding_constraint

Array = jax.Array


def constrain(x: Array, *names: str | None) -> Array:
    """`x`, sharded as the table says of its axes' names."""
    return with_sharding_constraint(x, names)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def gather(kernel: Array, names: tuple[str | None, str | None]) -> Array:
    """All-gathers a kernel along `embed` for its product; its gradient is sharded again.

    Fully sharded training stores 1/n of each kernel on a device and gathers it where it is used (Rajbhandari
    et al. 2020, arXiv:1910.02054, stage 3). Without constraints the partitioner may gather activations instead.
    """
    # The first constraint keeps the cast to bfloat16 before the gathering: half the bytes to move.
    kernel = constrain(kernel, *names)
    return constrain(kernel, *(None if name == "embed" else name for name in names))


gather.defvjp(
    lambda kernel, names: (gather(kernel, names), None), lambda names, _, grad: (constrain(grad, *names),)
)


def _batch_axes() -> tuple[str, ...]:
    """The mesh axes that rows are sharded over; none without a mesh or a table."""
    sizes = dict(jax.sharding.get_abstract_mesh().shape)
    if not sizes or not get_axis_rules():
        return ()
    axes = logical_to_mesh_axes(("batch",))[0] or ()
    axes = (axes,) if isinstance(axes, str) else axes
    return tuple(axis for axis in axes if sizes.get(axis, 1) > 1)


def by_shard(
    function: Callable, rows: Sequence[Array], kernels: Sequence[Array], names: Sequence[str], combine: Callable
):
    """Calls `function(*rows, *kernels)` once for each shard of the batch, on that shard's rows alone.

    A computation over the rows of several shards sums the kernel's gradient over the devices each time, for
    example in every chunk of a loop over tokens. Here each shard has its own copy of the kernel, which costs
    nothing since it is on that shard's devices already, and the gradients are summed once, at the end.

    Args:
      function: returns a tree of arrays.
      rows: arrays [batch, ...], or [tokens, ...] in the order of the batch.
      kernels: matrices, replicated to each shard.
      names: of the kernels' axes.
      combine: makes one result of the shards' results [shards, ...].

    Returns:
      `combine`'s result, or that of `function` where the batch is not sharded.
    """
    axes = _batch_axes()
    if not axes:
        return function(*rows, *kernels)
    sizes = jax.sharding.get_abstract_mesh().shape
    shards = math.prod(sizes[axis] for axis in axes)
    unsharded = tuple(None if name == "embed" else name for name in names)

    def split(x):
        return constrain(x.reshape(shards, -1, *x.shape[1:]), "batch", *[None] * x.ndim)

    def replicate(kernel):
        copies = jnp.broadcast_to(gather(kernel, names), (shards, *kernel.shape))
        return constrain(copies, "batch", *unsharded)

    return combine(jax.vmap(function, spmd_axis_name=axes)(*map(split, rows), *map(replicate, kernels)))
