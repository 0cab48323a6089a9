"""Programs that are compiled once: remembered in a process, and kept in the cache folder for later ones."""

import functools
import hashlib
import logging
import os
import pathlib
import platform
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import jax

from distill_jax.data import cache

T = TypeVar("T")
KEPT = 8  # of each function; a program holds no parameters, but a large one's code takes tens of megabytes
KEPT_BYTES = 4 << 30  # of all programs in the cache folder; those not used for longest go first
SECONDS = 0.1  # of compilation, from which on a program is kept
CPU_INFO = pathlib.Path("/proc/cpuinfo")
_OF_THE_KIND = ("model name", "flags", "Features", "CPU implementer", "CPU part")
log = logging.getLogger("distill_jax")


def remembered(make: Callable[..., T]) -> Callable[..., T]:
    """`make`, which returns for the same arguments what it returned before, of its last `KEPT` calls.

    It is called anew for arguments that cannot be hashed, such as an objective of a user's own class.
    """
    kept = functools.lru_cache(KEPT, typed=True)(make)

    @functools.wraps(make)
    def call(*args, **options) -> T:
        try:
            hash((args, tuple(options.values())))
        except TypeError:
            return make(*args, **options)
        return kept(*args, **options)

    return call


def compiling(lowered: jax.stages.Lowered) -> Future[jax.stages.Compiled]:
    """Compiles a program, or takes it from the cache, in a thread of its own; an error is the future's.

    XLA does both without Python's lock: the caller goes on meanwhile.
    """
    thread = ThreadPoolExecutor(1, "compile")
    try:
        return thread.submit(lowered.compile)
    finally:
        thread.shutdown(wait=False)


def keep_compiled() -> None:
    """Keeps what is compiled in the cache folder, and takes from there what an earlier process has kept.

    XLA compiles for the processor it runs on, and another may not have its instructions: each kind of machine
    has a folder of its own. Nothing changes where JAX has such a folder already (JAX_COMPILATION_CACHE_DIR),
    where the kind of processor cannot be told, and where the folder cannot be made, which a warning says.
    """
    machine = _machine()
    if jax.config.jax_compilation_cache_dir is not None or machine is None:
        return
    folder = cache.cache_dir() / "compiled" / machine
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.warning("warning: %s: %s: each process compiles its programs anew", folder, error.strerror)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", KEPT_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", SECONDS)


def _machine() -> str | None:
    """What tells a kind of machine from others: the processor, its instructions, the number of cores."""
    try:
        lines = CPU_INFO.read_text().splitlines()
    except FileNotFoundError:  # not Linux
        return None
    kind = sorted({line for line in lines if line.startswith(_OF_THE_KIND)})
    told = "\n".join([platform.machine(), str(len(os.sched_getaffinity(0))), *kind])
    return hashlib.sha256(told.encode()).hexdigest()[:16] if kind else None
