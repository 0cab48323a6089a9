"""The parts of a batch whose gradients are added up: by default of few tokens on a CPU, which saves memory."""

from collections.abc import Mapping

import numpy as np

from distill_jax.training.partitioning import Partitioner

TOKENS = 2048  # of a part on a CPU, at most: enough for its matrix products, and what is kept of it stays small


def of_run(asked: int | None, rows: int, tokens: int, place: Partitioner) -> int:
    """The number of parts of a batch: as asked, else 1, but on a CPU by `parts`.

    Args:
      asked: the option.
      rows: of a global batch.
      tokens: of a row.
      place: on whose devices.
    """
    if asked is not None:
        return asked
    devices = place.mesh.devices
    return parts(rows, tokens) if devices.size == 1 and devices.flat[0].platform == "cpu" else 1


def parts(rows: int, tokens: int) -> int:
    """The number of parts of at most `TOKENS` tokens, and half of that or more, that need the least padding."""
    most = max(1, TOKENS // tokens)
    if rows <= most:
        return 1
    each = min(range(most, most // 2, -1), key=lambda size: -rows % size)
    return -(-rows // each)


def divisible(rows: int, microbatches: int) -> int:
    """The least number of rows, at least so many, that divides over the parts."""
    return -(-rows // microbatches) * microbatches


def padded(
    batch: Mapping[str, np.ndarray], empty_row: Mapping[str, np.ndarray], microbatches: int
) -> dict[str, np.ndarray]:
    """A batch, [rows, length] of each feature, with rows of padding till it divides over the parts.

    They weigh nothing in any loss.
    """

    def pad(x: np.ndarray, row: np.ndarray) -> np.ndarray:
        missing = divisible(len(x), microbatches) - len(x)
        return np.concatenate([x, np.broadcast_to(row, (missing, *row.shape))]) if missing else x

    return {name: pad(x, empty_row[name]) for name, x in batch.items()}
