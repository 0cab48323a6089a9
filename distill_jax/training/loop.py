"""The loop of a run: step, log, save, validate, and stop at SIGTERM or Ctrl-C."""

import collections
import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax

from distill_jax.checkpoints.orbax import Checkpointer
from distill_jax.config import PretrainConfig, TrainConfig
from distill_jax.training import distributed
from distill_jax.training.listener import Listener
from distill_jax.training.metrics import MetricWriter
from distill_jax.training.nonfinite import Guard
from distill_jax.training.partitioning import Partitioner
from distill_jax.training.preemption import Preempted, Watch
from distill_jax.training.step import means
from distill_jax.training.trackers import Trackers
from distill_jax.training.train_state import TrainState

# Steps that may wait behind the one that runs, so that a device is never idle. On a CPU none does: the devices
# are the host, and a step's temporary memory is taken when it is dispatched, not when it begins.
STEPS_AHEAD = 2


class _Log(Listener):
    """Metrics to the run's folder and to the listener."""

    def __init__(self, config: TrainConfig, start_step: int, listener: Listener):
        trackers = Trackers(config) if config.wandb or config.mlflow else None
        self._writer, self._listener = MetricWriter(config.model_dir, start_step, trackers), listener

    def train(self, step: int, metrics: dict[str, float], speed: float, left: float) -> None:
        # Told first: what is written first opens TensorBoard's file, which may take seconds.
        self._listener.train(step, metrics, speed, left)
        self._writer.write(step, metrics | {"tokens_per_second": speed})

    def validation(self, step: int, scores: dict[str, float]) -> None:
        self._writer.write(step, scores, "validation")
        self._listener.validation(step, scores)

    def close(self) -> None:
        self._listener.close()
        self._writer.close()


class _Pending:
    """Metrics of the steps since the last line, left on the devices until they are asked for."""

    def __init__(self, guard: Guard, start_step: int):
        self._guard = guard
        self._seen = start_step
        self._metrics: list[dict[str, jax.Array]] = []
        self._average: list[dict[str, float]] = []

    def add(self, metrics: dict[str, jax.Array]) -> None:
        """Keeps the metrics of a step that was dispatched, and waits until few steps are in flight."""
        self._metrics.append(metrics)
        ahead = 0 if next(iter(metrics["loss"].devices())).platform == "cpu" else STEPS_AHEAD
        if len(self._metrics) > ahead:
            jax.block_until_ready(self._metrics[-1 - ahead])

    def look(self) -> None:
        """Waits for the steps so far; raises UserError when too many were skipped."""
        for metrics in jax.device_get(self._metrics):
            self._seen += 1
            self._average.append(metrics)
            self._guard.observe(self._seen, bool(metrics.get("skipped", 0.0)))
        self._metrics = []

    def average(self) -> dict[str, float]:
        """Their means; starts anew."""
        self.look()
        metrics, self._average = self._average, []
        return average(metrics)


def average(batches: list[dict[str, Any]]) -> dict[str, float]:
    """Metrics of some steps as one: the views' sums pooled, loss and gradient norm averaged.

    Skipped steps are counted, as `skipped_steps`, and left out of the rest, unless all were.
    """
    done = [metrics for metrics in batches if not metrics.get("skipped")] or batches
    total = collections.Counter()
    for metrics in done:
        total.update({name: float(value) for name, value in metrics.items()})
    out = {"loss": total["loss"] / len(done), **means(total)}
    if "grad_norm" in total:
        out["grad_norm"] = total["grad_norm"] / len(done)
    skipped = sum(bool(metrics.get("skipped")) for metrics in batches)
    return out | ({"skipped_steps": float(skipped)} if skipped else {})


@dataclasses.dataclass
class Loop:
    """Steps a state to the last step of its run.

    Attributes:
      state: to start or resume from; it may still be computed.
      start: its step.
      loader: batches of this host's rows, from the place of `state`; its `get_state` is saved.
      train_step: (state, batch) -> (state, metrics).
      validate: (parameters) -> scores; None for none.
      best_by: (scores) -> what the best checkpoint is chosen by, of `DistillationTask`.
      built: the run, for the listener.
    """

    state: TrainState
    start: int
    loader: Iterable
    train_step: Callable
    checkpointer: Checkpointer
    guard: Guard
    place: Partitioner
    config: TrainConfig | PretrainConfig
    validate: Callable[[Any], dict[str, float]] | None
    best_by: Callable[[dict[str, float]], tuple[str, float] | None]
    listener: Listener
    built: Any = None

    def run(self) -> dict[str, float]:
        """Steps, logs, validates and saves; returns and raises what `trainer.train` does."""
        self._log = Listener()
        if distributed.is_primary():
            self._log = _Log(self.config, self.start, self.listener)
            self.listener.begin(self.built, self.start)
        self._pending = _Pending(self.guard, self.start)
        self._means, self._scores = {}, {}
        self._began = self._logged = time.monotonic()
        self._tokens = 0
        try:
            with Watch() as watch:
                self._steps(watch)
        except BaseException:
            self.checkpointer.close()
            raise
        finally:
            self._log.close()
        self.checkpointer.close()
        distributed.meet()  # at its exit JAX waits for the others too, but not for long
        scores = {f"validation/{name}": value for name, value in self._scores.items()}
        seconds = time.monotonic() - self._began
        return self._means | scores | {"steps": self.config.train_steps, "seconds": seconds}

    def _steps(self, watch: Watch) -> None:
        config, train_steps = self.config, self.config.train_steps
        if self.start and self._due(self.start) and not self.checkpointer.is_validated(self.start):
            self._validated(self.start)  # the process before this one was stopped meanwhile
        for step, batch in zip(range(self.start + 1, train_steps + 1), self.loader, strict=False):
            segments = (batch["encoder_segment_ids"], batch["decoder_segment_ids"])
            self._tokens += sum(int((ids > 0).sum()) for ids in segments)
            with self.place.active():
                self.state, metrics = self.train_step(self.state, batch)
            self._pending.add(metrics)
            if step == self.start + 1:
                jax.block_until_ready(metrics)
                self._compiled = time.monotonic()
            last = step == train_steps
            stop = watch.reached(step)
            if step % config.log_period == 0 or last or stop:
                self._tell(step)
            if step % config.checkpoint_period == 0 or last or stop or self._due(step):
                self._pending.look()
                self.checkpointer.save(self.state, self.loader.get_state())
            if self._due(step) and (last or not stop):
                self._validated(step)
                stop = stop or watch.reached(step)
            if stop and not last:
                self.checkpointer.wait()
                raise Preempted(f"told to stop: saved at step {step} of {train_steps}")

    def _due(self, step: int) -> bool:
        """Whether the validation split is scored after a step."""
        at_period = self.config.eval_period and step % self.config.eval_period == 0
        return self.validate is not None and (at_period or step == self.config.train_steps)

    def _validated(self, step: int) -> None:
        self._scores = self.validate(self.state.params)
        self._log.validation(step, self._scores)
        self.checkpointer.record(step, self.best_by(self._scores))
        self._logged = time.monotonic()

    def _tell(self, step: int) -> None:
        """Logs the means of the steps since the last time, the tokens per second and the time left.

        `device_seconds`, the time since then on all devices, adds up to the cost of the training.
        """
        self._means, now = self._pending.average(), time.monotonic()
        speed = self._tokens * self.place.rows()[1] / (now - self._logged)
        done, since = step - self.start - 1, self._compiled  # the first step's time is that of compiling it
        if not done:
            done, since = 1, self._began
        left = (now - since) / done * (self.config.train_steps - step)
        spent = {"device_seconds": (now - self._logged) * jax.device_count()}
        self._log.train(step, self._means | spent, speed, left)
        self._tokens, self._logged = 0, now
