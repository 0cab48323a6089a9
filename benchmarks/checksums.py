"""What checksums cost in a save of a checkpoint: `python -m benchmarks.checksums --megabytes 1000`."""

import argparse
import statistics
import tempfile
import time
from unittest import mock

import jax
import jax.numpy as jnp

from distill_jax import checksums
from distill_jax.checkpoints.orbax import Checkpointer
from distill_jax.cli.common import quiet
from distill_jax.training.train_state import TrainState

ARRAYS = 20
SAVES = 5


def measure(folder: str, megabytes: float) -> tuple[list[float], list[float]]:
    """Seconds of each save until it is on the disk, and of the checksums in it."""
    size = int(megabytes * 1e6 / 4 / ARRAYS)
    params = {str(n): jax.random.normal(jax.random.key(n), size) for n in range(ARRAYS)}
    write, spent, saves, sums = checksums.write, [0.0], [], []

    def timed(*args, **options) -> None:
        began = time.perf_counter()
        write(*args, **options)
        spent[0] += time.perf_counter() - began

    checkpointer = Checkpointer(folder, keep=1, keep_best=0)
    with mock.patch.object(checksums, "write", timed):
        for step in range(SAVES + 1):  # the first warms up
            spent[0], began = 0.0, time.perf_counter()
            checkpointer.save(TrainState(jnp.int32(step), params, ()), {})
            checkpointer.wait()
            saves.append(time.perf_counter() - began)
            sums.append(spent[0])
    checkpointer.close()
    return saves[1:], sums[1:]


def main() -> None:
    """Prints the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=1000.0, help="size of the state")
    megabytes = parser.parse_args().megabytes
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        saves, sums = measure(folder, megabytes)
    save, part = statistics.median(saves), statistics.median(sums)
    print(f"{megabytes:g} MB: a save {save:.3f} s, checksums {part:.3f} s of it, {part / save:.1%}")


if __name__ == "__main__":
    main()
