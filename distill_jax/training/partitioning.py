"""The device mesh of a run, and where a batch and the state lie on it."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from distill_jax.errors import UserError


def data_mesh() -> Mesh:
    """All devices of all hosts on one axis, `data`."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def check_batch_size(batch_size: int, microbatches: int, mesh: Mesh) -> None:
    """Raises UserError unless every device gets the same number of rows of every microbatch."""
    parts = mesh.size * microbatches
    if batch_size % parts:
        raise UserError(
            f"BATCH_SIZE {batch_size} does not divide over {mesh.size} device(s) and {microbatches} "
            f"microbatch(es): the nearest that does is {max(1, round(batch_size / parts)) * parts}"
        )


def replicate(tree, mesh: Mesh):
    """Puts a copy of every array on every device."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def shard_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This host's rows [batch / hosts, length] -> global arrays [batch, length], rows over `data`."""
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    return {name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()}
