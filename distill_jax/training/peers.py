"""Noticing that another process of the run is gone, and ending this one with a line that says which."""

import atexit
import ctypes
import functools
import os
import re
import socket
import sys
import threading
import time
from typing import Any, NoReturn

import jax
from jax._src import distributed as jax_distributed

from distill_jax.checkpoints import orbax as checkpoints
from distill_jax.errors import UserError

# A peer that has not been heard of for so long is taken for dead.
HEARTBEAT_SECONDS = 20
# From hearing that a process is gone to ending: process 0 tells the others, who would take it for gone.
SETTLE_SECONDS = 4
LOOK_UP_SECONDS = 10
LEAVE_SECONDS = 300
EXIT_STATUS = 1
_YEARS_IN_MS = 10 * 365 * 24 * 3600 * 1000

_Handler = ctypes.CFUNCTYPE(None)
_POINTER_BYTES = ctypes.sizeof(ctypes.c_void_p)
_kept: list[Any] = []  # C++ has pointers to these

_state = jax_distributed.global_state
_ending = threading.Lock()
_leaving = False
_model_dir: str | None = None
_step = "before the first step"


def join(**arguments: Any) -> None:
    """Joins the run with `jax.distributed.initialize`, and watches the others until the end of this process.

    When one of them is gone, this process ends with `EXIT_STATUS` and one line, whatever it is doing.

    Raises:
      RuntimeError, ValueError: from `jax.distributed.initialize`.
    """
    if sys.platform == "linux":
        _replace_abort()
    jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_SECONDS, **arguments)
    threading.Thread(target=_watch, args=(_state.client,), name="peers", daemon=True).start()
    atexit.register(_leave)  # runs before JAX's own, whose errors nobody could catch


def count() -> int:
    """How many processes the run has; asks no device, unlike `jax.process_count`."""
    return _state.num_processes


def begin(model_dir: str) -> None:
    """Notes the run's folder, for the line that says where it goes on."""
    global _model_dir, _step
    _model_dir, _step = model_dir, "before the first step"


def at(step: int, train_steps: int) -> None:
    """Notes the step this process is in, for the same line."""
    global _step
    _step = f"at step {step} of {train_steps}"


def wait_for_news() -> None:
    """To be called after an unexpected error: does not return if the reason is that a process is gone."""
    time.sleep(2 * HEARTBEAT_SECONDS)


def _watch(client: Any) -> None:
    """Waits at a barrier that nobody else comes to: it fails when a process dies, and names it."""
    try:
        client.wait_at_barrier(f"distill_jax_watch_{_state.process_id}", _YEARS_IN_MS)
    except RuntimeError as error:
        dead = re.search(r"set to ERROR.*\bTask: (\d+)", str(error), re.DOTALL)
        if dead:
            _end(int(dead[1]))
        if not _leaving:
            _service_failed()


def _leave() -> None:
    global _leaving
    try:
        # JAX's own barrier, in `shutdown`, tells nobody who it was that did not come.
        _state.client.wait_at_barrier("distill_jax_leave", LEAVE_SECONDS * 1000)
        _leaving = True
        jax.distributed.shutdown()
    except RuntimeError:
        _service_failed()


def _service_failed(*_) -> NoReturn:
    """Ends the process because the coordination service failed; leaves it to the watch to say more."""
    # A process that dies closes its sockets one after the other; one that tells of a death lives for longer.
    time.sleep(SETTLE_SECONDS / 2)
    _end(None if _service_answers() else 0)  # the service is a part of process 0


def _service_answers() -> bool:
    host, _, port = _state.coordinator_address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=SETTLE_SECONDS / 2).close()
    except OSError:
        return False
    return True


def _end(process: int | None) -> NoReturn:
    _ending.acquire()  # for good: one line, of the thread that came first
    try:
        time.sleep(SETTLE_SECONDS)
        who = "another process is gone or hangs"
        if process is not None:
            who = f"process {process} of {_state.num_processes} is gone"
        # A live progress bar has hidden the cursor.
        lead = "\x1b[?25h\n" if sys.__stderr__.isatty() else ""
        line = f"error: {who}, {_step}: start all of them again, {_goes_on()}"
        sys.__stderr__.write(f"{lead}{line}\n")
        sys.__stderr__.flush()
    finally:
        os._exit(EXIT_STATUS)


def _goes_on() -> str:
    """Where the run goes on; without the number if the disk does not answer, which may be gone too."""
    found = []
    reader = threading.Thread(target=lambda: found.append(_last_checkpoint()), daemon=True)
    reader.start()
    reader.join(LOOK_UP_SECONDS)
    return found[0] if found else "the run goes on from its last complete checkpoint"


def _last_checkpoint() -> str:
    try:
        return f"the run goes on from its last complete checkpoint, of step {checkpoints.steps(_model_dir)[-1]}"
    except UserError:
        return "the run begins anew: it has no complete checkpoint yet"


def _replace_abort() -> None:
    """Makes JAX's client call `_service_failed` where it would abort the process with a stack trace.

    `jax.distributed.initialize` has no parameter for its callback. Nor can JAX's binding call one: for want
    of a Python type for the status it throws std::bad_cast, on a thread where nobody catches it, and what
    C++ calls then can be set.
    """
    module = jax_distributed._jax
    module.get_distributed_runtime_client = functools.partial(
        module.get_distributed_runtime_client, missed_heartbeat_callback=_service_failed
    )
    cpp = ctypes.CDLL("libstdc++.so.6")
    exception_type = cpp["__cxa_current_exception_type"]
    exception_type.restype = ctypes.c_void_p
    set_terminate = cpp["_ZSt13set_terminatePFvvE"]
    set_terminate.restype = _Handler

    def terminate() -> None:
        found = exception_type()
        # A std::type_info: the pointer to its methods, then the one to its name.
        if found and ctypes.c_char_p.from_address(found + _POINTER_BYTES).value == b"St8bad_cast":
            _service_failed()
        before()

    _kept.append(_Handler(terminate))
    before = set_terminate(_kept[-1])
