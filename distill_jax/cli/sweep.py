"""`distill-jax sweep`: a grid of methods, models, shares of the data, label sources and seeds."""

import signal
import sys

from distill_jax.cli import host_memory
from distill_jax.cli.common import command, quiet
from distill_jax.config import SweepConfig
from distill_jax.errors import Status


@command("sweep", "train and score a grid of students, each once; resume it, print its table")
def _sweep(config: SweepConfig) -> int:
    if config.cell is not None:
        host_memory.keep_freed()
        from distill_jax.experiments.sweep import cell
        from distill_jax.training.preemption import EXIT_STATUS, Preempted

        quiet()
        try:
            cell.run_alone(config)
        except Preempted as stop:
            print(f"{stop}; the same command resumes from there", file=sys.stderr)
            return EXIT_STATUS
        return 0
    from distill_jax.experiments.sweep import run
    from distill_jax.training.preemption import EXIT_STATUS

    def stop(*_) -> None:
        raise Stopped

    before = signal.signal(signal.SIGTERM, stop)  # the cells are told to stop, and save
    try:
        return run.run(config)
    except (Stopped, KeyboardInterrupt) as told:
        words = "told to stop: the cells that run save what they have; the same command resumes them"
        print(f"{words}; what is finished: add --table", file=sys.stderr)
        return EXIT_STATUS if isinstance(told, Stopped) else Status.INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)


class Stopped(BaseException):
    """SIGTERM: as KeyboardInterrupt is Ctrl-C, it passes all that handles errors."""
