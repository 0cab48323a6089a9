"""Runs the cells that are missing: each in a process of its own, or as a job of submitit.

A process that dies, of a signal or for want of memory, takes no other cell along. It waits for the lock of its
cell, so that two sweeps over one folder run no cell twice.
"""

import concurrent.futures
import itertools
import os
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence

from filelock import FileLock, Timeout

from distill_jax.config import SweepConfig
from distill_jax.errors import Status, UserError
from distill_jax.experiments.sweep import grid, sources, table
from distill_jax.experiments.sweep.grid import Cell, Sweep, folder_of
from distill_jax.experiments.sweep.results import read_result, take

LOG = "log.txt"
BUSY = "another process runs it"
# JAX takes three quarters of a GPU when it starts, which leaves too little to a second process on it.
MEMORY, SHARED_MEMORY = "XLA_PYTHON_CLIENT_MEM_FRACTION", 0.9  # of a GPU, for all that share it


def run(config: SweepConfig) -> int:
    """Runs what is missing, writes results.json and prints the table; the exit status.

    Raises:
      UserError: for a file that says what cannot be, see `grid.read` and `results.take`, and for data or
        checkpoints that are not there.
    """
    sweep = grid.read(config.file, config.trust)
    if config.finished is not None:
        take(config.finished, sweep, config.folder)
    failures = {} if config.table else Runner(config, sweep).run()
    is_written = table.deliver(sweep, config.folder, failures)
    for name, reason in failures.items():
        print(f"failed: {name}: {reason} ({folder_of(sweep.cell(name), config.folder) / LOG})")
    return Status.DONE if is_written and not failures else Status.FAILED


def execute(
    command: Sequence[str], log: str, environment: Mapping[str, str], stops: list[Callable[[], None]]
) -> int:
    """Runs a command whose output is added to a file; its status.

    Args:
      command: its words.
      log: path of the file.
      environment: added to this process's.
      stops: gets what ends the command.
    """
    with open(log, "ab") as file:
        options = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command, env=os.environ | environment, start_new_session=True, **options)
        stops.append(process.terminate)
        return process.wait()


class Runner:
    """The cells of a sweep, so many at once.

    Args:
      config: of the command line.
      sweep: its file.
    """

    def __init__(self, config: SweepConfig, sweep: Sweep):
        self._config, self._sweep, self._root = config, sweep, config.folder
        self._stops: list[Callable[[], None]] = []
        self._stopping, self._writing = False, threading.Lock()
        self._places, self._mine = itertools.count(), threading.local()
        self._executor = None if config.cluster is None else _executor(config, sweep)

    def run(self) -> dict[str, str]:
        """Runs what is missing; the reason by the name of each cell that failed."""
        cells = [cell for cell in self._sweep.cells if read_result(cell, self._root) is None]
        sources.check(self._config.file, cells)
        print(f"{len(self._sweep.cells)} cells, {len(cells)} to run, in {self._root}", flush=True)
        with concurrent.futures.ThreadPoolExecutor(self._config.workers, initializer=self._place) as pool:
            try:
                reasons = list(pool.map(self._run, cells))
                busy = [place for place, reason in enumerate(reasons) if reason == BUSY]
                later = pool.map(lambda place: self._run(cells[place], wait=True), busy)
                for place, reason in zip(busy, later, strict=True):
                    reasons[place] = reason
            except BaseException:
                self._stopping = True
                pool.shutdown(wait=False, cancel_futures=True)
                for stop in self._stops:
                    stop()
                raise
        return {cell.name: why for cell, why in zip(cells, reasons, strict=True) if why is not None}

    def _place(self) -> None:
        """Gives a worker its share of the cores, which the processes that it starts inherit, and a GPU."""
        place, workers = next(self._places), self._config.workers
        self._mine.environment = {}
        if workers == 1 or self._executor is not None:
            return
        if hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, cores[place % len(cores) :: workers])
        if gpus := _gpus():
            self._mine.environment = {"CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)]}
            if (sharing := -(-workers // len(gpus))) > 1 and MEMORY not in os.environ:
                self._mine.environment[MEMORY] = f"{SHARED_MEMORY / sharing:.3f}"

    def _run(self, cell: Cell, wait: bool = False) -> str | None:
        """Runs a cell, again where it fails; None, or the reason why there is no result."""
        folder = folder_of(cell, self._root)
        folder.mkdir(parents=True, exist_ok=True)
        if not wait and _is_locked(folder):
            return BUSY
        reason = "stopped"
        for _ in range(self._config.retries + 1):
            if self._stopping:
                break
            status = self._execute(cell.name, str(folder / LOG))
            if (found := read_result(cell, self._root)) is not None:
                print(table.line(found), flush=True)
                with self._writing:  # now, as the sweep may be stopped before its end
                    table.write(self._sweep, self._root)
                return None
            reason = _reason(status, folder / LOG)
            if reason.startswith("error: "):  # the user's to set right
                break
        return reason

    def _execute(self, name: str, log: str) -> int | str:
        """The status of a cell's process, or why its job has none."""
        words = ["sweep", self._config.file, "--output", str(self._root), "--cell", name]
        words += ["--trust"] if self._config.trust else []
        command = [sys.executable, "-m", "distill_jax.cli", *words]
        if self._executor is None:
            return execute(command, log, self._mine.environment, self._stops)
        job = self._executor.submit(execute, command, log, {}, [])
        self._stops.append(job.cancel)
        try:
            return job.result()
        except Exception as error:  # submitit raises what the job did, and its own for one that is lost
            return f"{type(error).__name__}: {error}".splitlines()[0]


def _is_locked(folder: pathlib.Path) -> bool:
    try:
        with FileLock(folder / "lock", timeout=0):
            return False
    except Timeout:
        return True


def _reason(status: int | str, log: pathlib.Path) -> str:
    """Why a process gave no result, on one line."""
    if isinstance(status, str):
        return status
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    return lines[-1] or f"status {status}, and nothing in its log: is the disk full?"


def _gpus() -> list[str]:
    """The GPUs that processes may see, by the names that CUDA_VISIBLE_DEVICES has for them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    return sorted(path.name.removeprefix("nvidia") for path in pathlib.Path("/dev").glob("nvidia[0-9]*"))


def _executor(config: SweepConfig, sweep: Sweep):
    try:
        import submitit
    except ModuleNotFoundError:
        raise UserError("--cluster needs submitit: pip install 'distill_jax[slurm]'") from None
    executor = submitit.AutoExecutor(config.folder / "jobs", cluster=config.cluster)
    try:
        executor.update_parameters(**{"timeout_min": 24 * 60} | dict(sweep.slurm))
    except (NameError, TypeError) as error:
        raise UserError(f"{config.file}: slurm: {str(error).splitlines()[0]}") from None
    return executor
