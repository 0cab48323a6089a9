"""Commands of `distill-jax`, each a process of its own that a fault can hit.

They are forked from one process that has imported everything, so that one takes a second and not five.
"""

import dataclasses
import logging
import multiprocessing
import os
import pathlib
import re
import runpy
import signal
import sys
import time
from collections.abc import Callable, Sequence

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "distill_jax",
        *("distill_jax.training.trainer", "distill_jax.evaluation.run", "distill_jax.decoding.infer"),
        *("distill_jax.checkpoints.convert", "distill_jax.export.run", "distill_jax.serving.listen"),
        *("distill_jax.teachers.session", "tensorboardX", "rich.console", "rich.table"),
    ]
)
# What absl and Python print.
_FOREIGN = re.compile(r"Traceback \(most recent|Exception ignored|[EFWI]\d{4} \d\d:\d\d:\d\d")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
      status: exit status; of a killed process the negative number of the signal.
      out, err: what it printed.
    """

    status: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines that begin with `error: `."""
        return [line for line in self.err.splitlines() if line.startswith("error: ")]

    @property
    def warnings(self) -> list[str]:
        """The lines that begin with `warning: `."""
        return [line for line in self.err.splitlines() if line.startswith("warning: ")]

    def fault(self) -> str | None:
        """What a user should not see: a traceback, a log of a library, an error that is not one last line."""
        foreign = [line for line in self.err.splitlines() if _FOREIGN.match(line)]
        if foreign:
            return f"printed {foreign[0]!r:.200}"
        if self.status not in (0, 1):
            return f"exit status {self.status}"
        if self.status == 0:
            return f"exit status 0 after {self.errors[0]!r}" if self.errors else None
        last = self.err.splitlines()[-1:]
        return None if len(self.errors) == 1 and self.errors == last else f"ended with {last!r:.300}"


Run = Callable[[Sequence[str]], Outcome]


class Command:
    """A command under way; what it prints goes to two files, `log`.out and `log`.err."""

    def __init__(
        self,
        words: Sequence[str],
        log: pathlib.Path,
        output: pathlib.Path | None = None,
    ):
        self._out, self._err = output or log.with_suffix(".out"), log.with_suffix(".err")
        for path in (log.with_suffix(".out"), self._err):
            path.write_text("")
        arguments = list(map(str, words)), self._out, self._err
        self._process = _CONTEXT.Process(target=_child, args=arguments)
        self._process.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def resident(self) -> float:
        """Mebibytes of memory that the process holds, without pages of files, which the system takes back."""
        resident, of_files = map(int, pathlib.Path(f"/proc/{self.pid}/statm").read_text().split()[1:3])
        return (resident - of_files) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def printed(self) -> str:
        """What it has printed so far."""
        return self._out.read_text()

    def until(self, text: str, seconds: float = 120.0) -> bool:
        """Waits till it has printed a text; False when it ended without."""
        end = time.monotonic() + seconds
        while text not in self.printed():
            if self._process.exitcode is not None:
                return text in self.printed()
            if time.monotonic() > end:
                raise TimeoutError(f"{text!r} was not printed in {seconds} s")
            time.sleep(0.02)
        return True

    def signal(self, number: int) -> None:
        """Sends a signal to the process, which may have ended."""
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def wait(self, seconds: float | None = None) -> Outcome | None:
        """How it ended; None where it has not, after so many seconds."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            return None
        out = self._out.read_text() if self._out.is_file() else ""
        return Outcome(self._process.exitcode, out, self._err.read_text(errors="replace"))

    def __enter__(self) -> "Command":
        return self

    def __exit__(self, *error: object) -> None:
        self.signal(signal.SIGKILL)
        self._process.join()


def _child(words: list[str], out: pathlib.Path, err: pathlib.Path) -> None:
    """Runs a command in this process, as `python -m distill_jax.cli` does."""
    for descriptor, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), descriptor)
    logging.getLogger().handlers.clear()  # of an import: in a command of its own the command line is first
    sys.argv = ["distill-jax", *words]
    runpy.run_module("distill_jax.cli", run_name="__main__")
