"""The loop of a run: step, look at what came out, log, evaluate, save, stop when told to."""

import collections
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax

from distill_jax.checkpoints.orbax import Checkpointer
from distill_jax.config import TrainConfig
from distill_jax.training import distributed
from distill_jax.training.listener import Listener
from distill_jax.training.metrics import MetricWriter
from distill_jax.training.nonfinite import Guard
from distill_jax.training.partitioning import Partitioner
from distill_jax.training.preemption import Preempted, Watch
from distill_jax.training.step import means
from distill_jax.training.train_state import TrainState


class _Log:
    """Metrics to the run's folder and to the listener, in the first process; nothing in the others."""

    def __init__(self, model_dir: str, train_steps: int, start_step: int, listener: Listener):
        self._writer = None
        if distributed.is_primary():
            self._writer, self._listener = MetricWriter(model_dir, start_step), listener
            listener.begin(start_step, train_steps)

    def train(self, step: int, metrics: dict[str, float], speed: float, left: float) -> None:
        if self._writer is not None:
            self._writer.write(step, metrics | {"tokens_per_second": speed})
            self._listener.train(step, metrics, speed, left)

    def validation(self, step: int, scores: dict[str, float]) -> None:
        if self._writer is not None:
            self._writer.write(step, scores, "validation")
            self._listener.validation(step, scores)

    def close(self) -> None:
        if self._writer is not None:
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
        self._metrics.append(metrics)

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


def run(
    state: TrainState,
    loader: Iterable,
    train_step: Callable,
    checkpointer: Checkpointer,
    guard: Guard,
    place: Partitioner,
    config: TrainConfig,
    *,
    validate: Callable[[Any], dict[str, float]] | None,
    listener: Listener,
) -> dict[str, float]:
    """Steps from `state` to the last.

    Args:
      state: to start or resume from.
      loader: batches of this host's rows, from the place of `state`; its `get_state` is saved.
      train_step: (state, batch) -> (state, metrics).
      checkpointer: takes the state and the loader's place.
      guard: looks at every step.
      place: the mesh.
      config: folder, steps and periods of the run.
      validate: (parameters) -> scores; None for none.
      listener: is told of metrics.

    Returns:
      See `trainer.train`.

    Raises:
      UserError: from `guard` and `checkpointer`.
      Preempted: see `trainer.train`.
    """
    start_step, train_steps = int(state.step), config.train_steps
    log = _Log(config.model_dir, train_steps, start_step, listener)
    pending = _Pending(guard, start_step)
    means_now: dict[str, float] = {}
    last_scores: dict[str, float] = {}
    began = logged = time.monotonic()
    tokens = 0

    def validated(step: int) -> dict[str, float]:
        nonlocal logged
        scores = validate(state.params)
        log.validation(step, scores)
        checkpointer.record(step, scores)
        logged = time.monotonic()
        return scores

    def due(step: int) -> bool:
        return validate is not None and (step % config.eval_period == 0 or step == train_steps)

    try:
        with Watch() as watch:
            if start_step and due(start_step) and not checkpointer.is_validated(start_step):
                last_scores = validated(start_step)  # the process before this one was stopped meanwhile
            for step, batch in zip(range(start_step + 1, train_steps + 1), loader, strict=False):
                tokens += int((batch["encoder_segment_ids"] > 0).sum())
                tokens += int((batch["decoder_segment_ids"] > 0).sum())
                with place.active():
                    state, metrics = train_step(state, batch)
                pending.add(metrics)
                last = step == train_steps
                stop = watch.reached(step)
                if step % config.log_period == 0 or last or stop:
                    means_now = pending.average()
                    now = time.monotonic()
                    speed = tokens * place.rows()[1] / (now - logged)
                    left = (now - began) / (step - start_step) * (train_steps - step)
                    log.train(step, means_now, speed, left)
                    tokens, logged = 0, now
                if step % config.checkpoint_period == 0 or last or stop or due(step):
                    pending.look()
                    checkpointer.save(state, loader.get_state())
                if due(step) and (last or not stop):
                    last_scores = validated(step)
                    stop = stop or watch.reached(step)
                if stop and not last:
                    checkpointer.wait()
                    raise Preempted(f"told to stop: saved at step {step} of {train_steps}")
    except BaseException:
        checkpointer.close()
        raise
    finally:
        log.close()
    checkpointer.close()
    distributed.meet()  # at its exit JAX waits for the others too, but not for long
    final = {f"validation/{name}": value for name, value in last_scores.items()}
    return means_now | final | {"steps": train_steps, "seconds": time.monotonic() - began}
