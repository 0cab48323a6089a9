"""Writes metrics as JSON lines, TensorBoard scalars, and to the trackers that the configuration names."""

import json
import logging
import pathlib

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
        self._file, self._trackers = path.open("a"), trackers
        from tensorboardX import SummaryWriter  # brings torch along where that is installed: seconds

        self._summary = SummaryWriter(str(folder / "tensorboard"), purge_step=start_step + 1)

    def write(self, step: int, metrics: dict[str, float], prefix: str = "train") -> None:
        """Writes one line `{"step", "<prefix>/<name>": value, …}`."""
        named = {f"{prefix}/{name}": float(value) for name, value in metrics.items()}
        self._file.write(json.dumps({"step": step} | named) + "\n")
        self._file.flush()
        for name, value in named.items():
            self._summary.add_scalar(name, value, step)
        if self._trackers is not None:
            self._trackers.write(step, named)

    def close(self) -> None:
        """Flushes and closes all of them."""
        self._file.close()
        self._summary.close()
        if self._trackers is not None:
            self._trackers.close()
