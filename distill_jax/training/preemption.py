"""Being told to stop: SIGTERM to any process of a run makes all of them save at the same step.

Ctrl-C is as SIGTERM where a run has one process; given twice, it ends the run at once. A signal that is ignored
when the run begins, as a shell has SIGINT ignored for what it starts with `&`, stays ignored.
"""

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
    """Listens for SIGTERM and SIGINT while a run lasts; for the latter once.

    With several processes JAX's coordination service listens, and picks a step that all of them reach.
    """

    def __init__(self):
        self._told, self._before = False, {}
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._listens = in_main_thread and not jax.distributed.is_initialized()

    def __enter__(self) -> "Watch":
        if self._listens:
            heard = [n for n in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(n) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._tell) for number in heard}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _tell(self, number: int, frame: FrameType | None) -> None:
        self._told = True
        if number == signal.SIGINT:
            signal.signal(number, self._before[number])

    def reached(self, step: int) -> bool:
        """Whether to save and stop after `step`; to be asked after each, in every process."""
        if jax.distributed.is_initialized():
            return multihost.reached_preemption(step)
        return self._told
