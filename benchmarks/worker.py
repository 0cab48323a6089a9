"""A part of a benchmark in a process of its own, with its peak memory."""

import json
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any


def call(module: str, *args: str, stdin: Any = None, environment: Mapping[str, str] | None = None) -> dict:
    """Runs `python -m module args`, which prints a JSON object as its last line.

    Args:
      module: such as `benchmarks.startup`.
      args: of the command line.
      stdin: what the process reads as JSON.
      environment: added to this process's.

    Returns:
      The object, with `process_seconds` (start to end) and `peak_gib` (resident memory at its highest).

    Raises:
      RuntimeError: when it fails, with the last line of its errors.
    """
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", module, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | dict(environment or {}),
    )
    output, errors = process.communicate(json.dumps(stdin))
    seconds = time.perf_counter() - began
    if process.returncode:
        last = (errors.strip().splitlines() or [f"exit status {process.returncode}"])[-1]
        raise RuntimeError(f"{module} {' '.join(args)}: {last}")
    return json.loads(output.splitlines()[-1]) | {"process_seconds": seconds}


def answer(found: dict) -> None:
    """Prints a worker's object with the peak memory of this process.

    It is Linux's `VmHWM`; the peak of `getrusage` starts at that of the parent process.
    """
    status = pathlib.Path("/proc/self/status").read_text()
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 2**20
    print(json.dumps(found | {"peak_gib": peak}), flush=True)
