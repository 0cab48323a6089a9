"""A part of a benchmark in a process of its own, with its peak memory."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any


def call(
    module: str,
    *args: str,
    stdin: Any = None,
    environment: Mapping[str, str] | None = None,
    tell: Callable[[str], None] | None = None,
    limit: float | None = None,
) -> dict:
    """Runs `python -m module args`, which prints a JSON object as its last line.

    Args:
      module: such as `benchmarks.startup`.
      args: of the command line.
      stdin: what the process reads as JSON.
      environment: added to this process's.
      tell: is called with each line of its errors, as it comes.
      limit: seconds after which it is ended, with the processes that it started; None for none.

    Returns:
      The object, with `process_seconds` (start to end) and `peak_gib` (resident memory at its highest).

    Raises:
      RuntimeError: when it fails, with the last line of its errors, or takes longer than the limit.
    """
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *args],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | dict(environment or {}),
            start_new_session=limit is not None,
        )
        with contextlib.suppress(BrokenPipeError):  # what it died of is told below
            json.dump(stdin, process.stdin)
            process.stdin.close()
        errors = []
        with _ended_after(process, limit) as late:
            for line in process.stderr:
                errors.append(line)
                if tell is not None:
                    tell(line.rstrip())
            process.wait()
        seconds = time.perf_counter() - began
        if late.is_set():
            raise RuntimeError(f"{module} {' '.join(args)}: took longer than {limit:g} s")
        if process.returncode:
            raise RuntimeError(f"{module} {' '.join(args)}: {last_line(''.join(errors), process.returncode)}")
        output.seek(0)
        return json.loads(output.read().splitlines()[-1]) | {"process_seconds": seconds}


@contextlib.contextmanager
def _ended_after(process: subprocess.Popen, limit: float | None) -> Iterator[threading.Event]:
    """Ends the process's session when it takes longer, which sets the event, and when the caller is stopped."""
    late = threading.Event()
    if limit is None:
        yield late
        return

    def end() -> None:
        with contextlib.suppress(ProcessLookupError):  # it ended in this moment
            os.killpg(process.pid, signal.SIGKILL)

    def end_late() -> None:
        late.set()
        end()

    timer = threading.Timer(limit, end_late)
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
        end()


def last_line(errors: str, status: int) -> str:
    """What a process died of, as far as it said."""
    if status == -signal.SIGKILL:
        return "ended by SIGKILL: the memory was short, or somebody killed it"
    return (errors.strip().splitlines() or [f"exit status {status}"])[-1]


def peak_gib() -> float:
    """The highest resident memory of this process: `VmHWM`, as that of `getrusage` starts at the parent's."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 2**20


def answer(found: dict) -> None:
    """Prints a worker's object with the peak memory of this process."""
    print(json.dumps(found | {"peak_gib": peak_gib()}), flush=True)
