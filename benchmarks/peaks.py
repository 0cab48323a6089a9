"""The matrix peak of each library on this machine: what a product of two large matrices reaches.

It is the limit of every rate in the tables, and what tells one machine's ratios from another's: much of a ratio
to a peer may be the two libraries' products.
"""

import functools
import importlib.util
import sys
import time
from collections.abc import Callable

from benchmarks import worker
from benchmarks.settings import Settings

SIZE = 2048  # of the square matrices, on a CPU
REPEATS = 7
LIBRARIES = ("jax", "torch")


def matrix_peak(library: str, size: int = SIZE, dtype: str = "float32", count: int = 1) -> float | None:
    """Operations a second of a product of two square matrices, the best of `REPEATS`; None without the library.

    Args:
      library: of `LIBRARIES`; it takes the threads that it has.
      size: of the matrices.
      dtype: of the matrices.
      count: products of a measurement, so that an accelerator is not measured by its start.
    """
    if importlib.util.find_spec(library) is None:
        return None
    product = {"jax": _in_jax, "torch": _in_torch}[library](size, dtype)
    product(1)
    return max(count * 2.0 * size**3 / _seconds(functools.partial(product, count)) for _ in range(REPEATS))


def _seconds(function: Callable[[], None]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def _in_jax(size: int, dtype: str) -> Callable[[int], None]:
    import jax

    a = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(lambda a: a @ a)

    def run(count: int) -> None:
        for _ in range(count):
            out = product(a)
        out.block_until_ready()

    return run


def _in_torch(size: int, dtype: str) -> Callable[[int], None]:
    import torch

    a = torch.randn(size, size, dtype=getattr(torch, dtype))

    def run(count: int) -> None:
        for _ in range(count):
            a @ a

    return run


def run(settings: Settings) -> dict[str, float | None]:
    """The peak of each library, float32, each in a process of its own; None for one that is not installed."""
    del settings  # a process has the cores that its parent has
    return of_libraries()


def of_libraries() -> dict[str, float | None]:
    """As `run`."""
    return {name: worker.call("benchmarks.peaks", name)["peak"] for name in LIBRARIES}


if __name__ == "__main__":
    worker.answer({"peak": matrix_peak(sys.argv[1])})
