"""Where arrays of the model lie, by the names of their axes; without a mesh all of this does nothing.

The names are T5X's. The table from names to mesh axes is the one in force, of
`flax.linen.partitioning.axis_rules`: that of `training.partitioning` in our engine, T5X's own in T5X.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax.linen.partitioning import get_axis_rules, logical_to_mesh_axes, with_sharding_constraint

Array = jax.Array


def constrain(x: Array, *names: str | None) -> Array:
    """`x`, its axes spread as the table says of `names`."""
    return with_sharding_constraint(x, names)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def gather(kernel: Array, names: tuple[str, str]) -> Array:
    """A kernel whole along `embed`, to be multiplied with; its gradient comes back spread.

    Fully sharded training keeps 1/n of each kernel and gathers it where it is used (Rajbhandari et al. 2020,
    arXiv:1910.02054, stage 3). Left to itself the partitioner may gather the activations instead.
    """
    # The first constraint keeps a cast before the gathering: half the bytes to move.
    kernel = constrain(kernel, *names)
    return constrain(kernel, *(None if name == "embed" else name for name in names))


def _gather_forward(kernel, names):
    return gather(kernel, names), None


def _gather_backward(names, _, grad):
    return (constrain(grad, *names),)


gather.defvjp(_gather_forward, _gather_backward)


def _batch_axes() -> tuple[str, ...]:
    """The mesh axes that rows are spread over; none without a mesh or a table."""
    sizes = dict(jax.sharding.get_abstract_mesh().shape)
    if not sizes or not get_axis_rules():
        return ()
    axes = logical_to_mesh_axes(("batch",))[0] or ()
    axes = (axes,) if isinstance(axes, str) else axes
    return tuple(axis for axis in axes if sizes.get(axis, 1) > 1)


def by_shard(
    function: Callable,
    rows: tuple[Array, ...],
    kernels: tuple[Array, ...],
    names: tuple[str, str],
    whole: Callable,
):
    """Calls `function(*rows, *kernels)` once for each shard of the batch, on that shard's rows alone.

    What goes over the rows of several shards at once adds the kernel's gradient up over the devices each time:
    in every chunk of a loop over tokens, say. So each shard has its own copy of the kernel, which costs nothing
    since it lies on that shard's devices, and the gradients are added once, at the end.

    Args:
      function: returns a tree of arrays.
      rows: arrays [batch, ...], or [tokens, ...] in the order of the batch.
      kernels: matrices, given to each shard.
      names: of their axes.
      whole: makes one result of the shards' results [shards, ...].

    Returns:
      `whole` of the results, or `function`'s own where the batch is not spread.
    """
    axes = _batch_axes()
    if not axes:
        return function(*rows, *kernels)
    sizes = jax.sharding.get_abstract_mesh().shape
    shards = math.prod(sizes[axis] for axis in axes)
    kept = tuple(None if name == "embed" else name for name in names)

    def split(x):
        x = x.reshape(shards, x.shape[0] // shards, *x.shape[1:])
        return constrain(x, "batch", *[None] * (x.ndim - 1))

    def spread(kernel):
        copies = jnp.broadcast_to(gather(kernel, names), (shards, *kernel.shape))
        return constrain(copies, "batch", *kept)

    return whole(jax.vmap(function, spmd_axis_name=axes)(*map(split, rows), *map(spread, kernels)))
