"""What a process does with memory it has freed: on a CPU, keep it for the next step."""

import ctypes
import importlib.metadata
import importlib.util
import os
import platform

# mallopt's parameters, of glibc's malloc.h
TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8


def _cpu_alone() -> bool:
    """Whether JAX can only run on the CPU here; does not start a backend."""
    platforms = os.environ.get("JAX_PLATFORMS")
    if platforms:
        return platforms == "cpu"
    plugins = importlib.util.find_spec("jax_plugins") or importlib.util.find_spec("libtpu")
    return not (plugins or importlib.metadata.entry_points(group="jax_plugins"))


def keep_freed() -> bool:
    """Lets a process that computes on the CPU keep the memory it frees, with glibc's `mallopt`.

    XLA on CPU allocates the temporary buffers of a step anew in every step. glibc takes blocks of that size
    from the system and gives them back when they are freed, so that each step faults in and clears all their
    pages again: a fifth of the time of a step of T5 1.1 small. Now they come from one heap, which is not
    trimmed: the process's highest memory is the same, but it is given back only at the end.

    To be called before JAX starts its backend, for a thread keeps the heap that it began with.

    Returns:
      Whether it was done; not where JAX may run on an accelerator, nor without glibc.
    """
    if platform.libc_ver()[0] != "glibc" or not _cpu_alone():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(ARENA_MAX, 1), mallopt(MMAP_MAX, 0), mallopt(TRIM_THRESHOLD, -1)])
