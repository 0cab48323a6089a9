"""Being told to stop: SIGTERM to any process of a run makes all of them save at the same step."""

import signal
import threading
from types import FrameType

import jax
from orbax.checkpoint import multihost

from distill_jax.errors import Status

EXIT_STATUS = Status.PREEMPTED  # not 0: what starts jobs must not take the run for done


class Preempted(Exception):
    """The run was told to stop, and has saved."""


class Watch:
    """Listens for SIGTERM while a run lasts.

    With several processes JAX's coordination service listens, and picks a step that all of them reach.
    """

    def __init__(self):
        self._told, self._before = False, None
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._listens = in_main_thread and not jax.distributed.is_initialized()

    def __enter__(self) -> "Watch":
        if self._listens:
            self._before = signal.signal(signal.SIGTERM, self._tell)
        return self

    def __exit__(self, *_) -> None:
        if self._listens:
            signal.signal(signal.SIGTERM, self._before)

    def _tell(self, number: int, frame: FrameType | None) -> None:
        self._told = True

    def reached(self, step: int) -> bool:
        """Whether to save and stop after `step`; to be asked after each, in every process."""
        if jax.distributed.is_initialized():
            return multihost.reached_preemption(step)
        return self._told
