"""Writes metrics as JSON lines, TensorBoard scalars, and to the trackers that the configuration names."""

import functools
import json
import logging
import pathlib
import tempfile
import time

from distill_jax import files
from distill_jax.checkpoints.layout import METRICS
from distill_jax.training.trackers import Trackers

log = logging.getLogger("distill_jax")


class MetricWriter:
    """Appends to `<model_dir>/metrics.jsonl` and `<model_dir>/tensorboard/`.

    After a restart from step `start_step` the lines of later steps are dropped first: they belong to
    updates that were lost, and will be written again. So are lines that are cut short or damaged, which a
    warning names. `trackers` get the same metrics.
    """

    def __init__(self, model_dir: str, start_step: int = 0, trackers: Trackers | None = None):
        folder = pathlib.Path(model_dir)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / METRICS
        if path.exists():
            rows, bad = files.json_lines(path, "step")
            if bad:
                log.warning("warning: %s: dropped the lines %s, cut short or damaged", path, bad)
            files.write_text(path, "".join(json.dumps(row) + "\n" for row in rows if row["step"] <= start_step))
        self._path, self._trackers = path, trackers
        self._events = _Events(folder / "tensorboard", start_step + 1)

    def write(self, step: int, metrics: dict[str, float], prefix: str = "train") -> None:
        """Writes one line `{"step", "<prefix>/<name>": value, …}`; raises UserError when the disk is full."""
        named = {f"{prefix}/{name}": float(value) for name, value in metrics.items()}
        files.append_line(self._path, json.dumps({"step": step} | named))
        self._events.write(step, named)
        if self._trackers is not None:
            self._trackers.write(step, named)

    def close(self) -> None:
        """Flushes and closes all of them."""
        self._events.close()
        if self._trackers is not None:
            self._trackers.close()


class _Events:
    """Scalars for TensorBoard, whose events from `purge_step` on count no longer.

    tensorboardX's `SummaryWriter` leaves the writing to a thread, which a full disk ends: it then waits for it.
    """

    def __init__(self, folder: pathlib.Path, purge_step: int):
        self._folder, self._purge_step = folder, purge_step
        with files.disk_errors(folder):  # before anything is trained, though the file is opened later
            folder.mkdir(exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()

    @functools.cached_property
    def _written(self):
        """The file, and what makes events; opened by the first event.

        Importing tensorboardX brings torch along where that is installed, which takes seconds: the first step
        does not wait for it.
        """
        from tensorboardX import event_file_writer, summary
        from tensorboardX.proto import event_pb2

        with files.disk_errors(self._folder):
            writer = event_file_writer.EventsWriter(str(self._folder / "events"))
            started = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            first = event_pb2.Event(step=self._purge_step, wall_time=time.time(), session_log=started)
            writer.write_event(first)
        return writer, event_pb2.Event, summary.scalar

    def write(self, step: int, values: dict[str, float]) -> None:
        writer, event, scalar = self._written
        with files.disk_errors(self._folder):
            for name, value in values.items():
                writer.write_event(event(step=step, wall_time=time.time(), summary=scalar(name, value)))
            writer.flush()

    def close(self) -> None:
        if "_written" in vars(self):
            with files.disk_errors(self._folder):
                self._written[0].close()
