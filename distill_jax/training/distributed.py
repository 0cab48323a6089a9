"""Several processes as one run: start-up from the environment, taking turns, and ending together."""

import dataclasses
import itertools
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from distill_jax.errors import UserError

T = TypeVar("T")
BY_HAND = ("COORDINATOR_ADDRESS", "NUM_PROCESSES", "PROCESS_ID")
START_SECONDS = "300"  # unless DISTRIBUTED_START_SECONDS says otherwise
MEETING_SECONDS = 24 * 3600
# JAX ends every process of a run when one has not been heard of for so long, or has not come to the end with
# the others. What a process does meanwhile does not matter: the heartbeat has a thread of its own.
HEARTBEAT_SECONDS = 20
SHUTDOWN_SECONDS = 30


@dataclasses.dataclass(frozen=True)
class Cluster:
    """How to join a run: `arguments` are those of `jax.distributed.initialize`, `name` is for messages."""

    name: str
    arguments: dict[str, Any]


def detect(environment: Mapping[str, str]) -> Cluster | None:
    """Reads from the environment whether this process is one of several; which one, JAX finds out itself.

    In this order: by hand (COORDINATOR_ADDRESS, NUM_PROCESSES, PROCESS_ID); a SLURM step of several tasks; a
    TPU slice of several hosts, as GKE describes it; and DISTRIBUTED=auto, which asks JAX, as on Cloud TPU VMs,
    whose metadata server knows. A process that is started by hand within a SLURM job is one process: only
    `srun` sets SLURM_STEP_NUM_TASKS, to the number it starts; a job's other variables are in every shell.

    Returns:
      None for a run of one process.

    Raises:
      UserError: when the variables are incomplete or contradict each other.
    """
    if any(environment.get(name) for name in BY_HAND):
        return _by_hand(environment)
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "")
    if tasks.isdecimal() and int(tasks) > 1:
        return Cluster(f"SLURM task {environment.get('SLURM_PROCID', '?')} of {tasks}", {})
    if "," in environment.get("TPU_WORKER_HOSTNAMES", "") or environment.get("MEGASCALE_COORDINATOR_ADDRESS"):
        return Cluster(f"TPU worker {environment.get('TPU_WORKER_ID', '?')}", {})
    mode = environment.get("DISTRIBUTED")
    if mode == "auto":
        return Cluster("DISTRIBUTED=auto", {})
    if mode:
        raise UserError(f"DISTRIBUTED={mode}: expected auto, or nothing")
    return None


def _by_hand(environment: Mapping[str, str]) -> Cluster:
    missing = [name for name in BY_HAND if not environment.get(name)]
    if missing:
        given = [name for name in BY_HAND if name not in missing]
        raise UserError(f"{', '.join(given)} given, but not {', '.join(missing)}: give all three")
    address = environment["COORDINATOR_ADDRESS"].strip()
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(f"COORDINATOR_ADDRESS {address!r}: expected HOST:PORT")
    count = _number(environment, "NUM_PROCESSES", 1)
    index = _number(environment, "PROCESS_ID", 0)
    if index >= count:
        raise UserError(f"PROCESS_ID {index}: expected a number from 0 to NUM_PROCESSES - 1 = {count - 1}")
    arguments = {"coordinator_address": address, "num_processes": count, "process_id": index}
    return Cluster(f"process {index} of {count}, coordinator {address}", arguments)


def _number(environment: Mapping[str, str], name: str, minimum: int, default: str = "") -> int:
    text = environment.get(name, "").strip() or default
    try:
        number = int(text)
    except ValueError:
        number = minimum - 1
    if number < minimum:
        raise UserError(f"{name} {text!r}: expected a whole number from {minimum} on")
    return number


def initialize() -> None:
    """Joins the run that the environment describes; nothing if it describes none.

    When a process of the run dies, JAX's coordination service ends the others: at once if it was process 0,
    else after `HEARTBEAT_SECONDS`; after an error in one of them, by `SHUTDOWN_SECONDS`. Their status is not 0,
    and JAX's own message is their last.

    Raises:
      UserError: when the variables are wrong, or the other processes cannot be reached.
    """
    seconds = _number(os.environ, "DISTRIBUTED_START_SECONDS", 1, START_SECONDS)
    cluster = detect(os.environ)
    if cluster is None or jax.distributed.is_initialized():
        return
    try:
        jax.distributed.initialize(
            **cluster.arguments,
            initialization_timeout=seconds,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise UserError(
            f"{cluster.name}: could not join the other processes within {seconds} s: check that all were "
            f"started and that the coordinator's port is open ({first})"
        ) from error


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
    if jax.process_count() > 1:
        wait = multihost.get_barrier_sync_fn()
        wait(key=f"distill_jax_{next(_meetings)}", timeout_ms=MEETING_SECONDS * 1000)


def called_together(compiled: Callable[[], Callable]) -> Callable:
    """Calls what `compiled` gives, the first time when it is there in all processes.

    They compile at their own pace, while a collective operation waits only seconds for the others.
    """
    met = False

    def call(*arguments):
        nonlocal met
        step = compiled()
        if not met:
            meet()
            met = True
        return step(*arguments)

    return call


def to_host(tree: Any) -> Any:
    """Whole arrays on every host, as numpy's."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return jax.device_get(multihost_utils.process_allgather(tree, tiled=True))
