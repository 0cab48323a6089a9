"""Several processes as one run: start-up from the environment, taking turns, and ending together."""

import dataclasses
import itertools
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

import jax
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from distill_jax.errors import UserError
from distill_jax.training import peers

T = TypeVar("T")
BY_HAND = ("COORDINATOR_ADDRESS", "NUM_PROCESSES", "PROCESS_ID")
START_SECONDS = 300
MEETING_SECONDS = 24 * 3600


@dataclasses.dataclass(frozen=True)
class Cluster:
    """How to join a run: `arguments` are those of `jax.distributed.initialize`, `how` is for messages."""

    how: str
    arguments: dict[str, Any]


def detect(environment: Mapping[str, str]) -> Cluster | None:
    """Reads from the environment whether this process is one of several, and which.

    In this order: by hand (COORDINATOR_ADDRESS, NUM_PROCESSES, PROCESS_ID); a SLURM step of several tasks;
    a TPU slice of several hosts, as GKE describes it; and DISTRIBUTED=auto, which leaves it to JAX, as on
    Cloud TPU VMs, whose metadata server knows.

    Returns:
      None for a run of one process.

    Raises:
      UserError: when the variables are incomplete or contradict each other.
    """
    given = {name: environment[name] for name in BY_HAND if environment.get(name)}
    if given:
        missing = [name for name in BY_HAND if name not in given]
        if missing:
            raise UserError(f"{', '.join(given)} given, but not {', '.join(missing)}: give all three")
        address = given["COORDINATOR_ADDRESS"]
        if not address.rpartition(":")[2].isdecimal() or ":" not in address:
            raise UserError(f"COORDINATOR_ADDRESS {address!r}: expected HOST:PORT")
        count, index = (_number(name, given[name]) for name in ("NUM_PROCESSES", "PROCESS_ID"))
        if not 0 <= index < count:
            raise UserError(f"PROCESS_ID {index}: expected a number from 0 to NUM_PROCESSES - 1 = {count - 1}")
        arguments = {"coordinator_address": address, "num_processes": count, "process_id": index}
        return Cluster(f"process {index} of {count}, coordinator {address}", arguments)
    if int(environment.get("SLURM_NTASKS") or 1) > 1 and "SLURM_PROCID" in environment:
        return Cluster(f"SLURM task {environment['SLURM_PROCID']} of {environment['SLURM_NTASKS']}", {})
    if "," in environment.get("TPU_WORKER_HOSTNAMES", "") or environment.get("MEGASCALE_COORDINATOR_ADDRESS"):
        return Cluster(f"TPU worker {environment.get('TPU_WORKER_ID', '?')}", {})
    mode = environment.get("DISTRIBUTED")
    if mode == "auto":
        return Cluster("DISTRIBUTED=auto", {})
    if mode:
        raise UserError(f"DISTRIBUTED={mode}: expected auto, or nothing")
    return None


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError(f"{name} {text!r}: expected a number") from None


def initialize(model_dir: str) -> None:
    """Joins the run that the environment describes; nothing if it describes none.

    Args:
      model_dir: the run's folder.

    Raises:
      UserError: when the variables are wrong, or the other processes cannot be reached.
    """
    peers.begin(model_dir)
    if jax.distributed.is_initialized():
        return
    cluster = detect(os.environ)
    if cluster is None:
        return
    seconds = int(os.environ.get("DISTRIBUTED_START_SECONDS", START_SECONDS))
    try:
        peers.join(**cluster.arguments, initialization_timeout=seconds)
    except (RuntimeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise UserError(
            f"{cluster.how}: could not join the other processes within {seconds} s: check that all were "
            f"started and that the coordinator's port is open ({first})"
        ) from error


def several() -> bool:
    """Whether this process is one of several."""
    return peers.count() > 1


def is_primary() -> bool:
    """Whether this process writes what is written once."""
    return jax.process_index() == 0


def first_alone(function: Callable[[], T]) -> T:
    """Calls `function` in the first process, then in the others: they find what it has left on disk."""
    if jax.process_count() == 1:
        return function()
    result = function() if is_primary() else None
    meet()
    return result if is_primary() else function()


_meetings = itertools.count()


def meet() -> None:
    """Waits for all processes, however long one of them works on its own; a dead one ends the wait."""
    wait = multihost.get_barrier_sync_fn()
    wait(key=f"distill_jax_{next(_meetings)}", timeout_ms=MEETING_SECONDS * 1000)


def compiled_together(step: Callable) -> Callable:
    """A jitted function for calls of the same shapes in all processes, which wait till all have compiled it.

    They compile at their own pace, while a collective operation waits only seconds for the others.
    """
    if not several():
        return step
    compiled = None

    def call(*arguments):
        nonlocal compiled
        if compiled is None:
            compiled = step.lower(*arguments).compile()
            meet()
        return compiled(*arguments)

    return call


def to_host(tree: Any) -> Any:
    """Whole arrays on every host, as numpy's."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return jax.device_get(multihost_utils.process_allgather(tree, tiled=True))


def exit_now(status: int) -> NoReturn:
    """Ends this process without waiting for the others, which may be gone, or wait for it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
