"""The loop with a model of one number: what is saved, validated and resumed when the process is stopped."""

import contextlib
import json
import os
import signal
import types

import flax.struct
import jax.numpy as jnp
import numpy as np
import pytest

from distill_jax.checkpoints.orbax import Checkpointer, pick_step, steps
from distill_jax.config import TrainConfig
from distill_jax.training import loop
from distill_jax.training.listener import Listener
from distill_jax.training.nonfinite import Guard
from distill_jax.training.preemption import Preempted


@flax.struct.dataclass
class State:
    step: jnp.ndarray
    params: jnp.ndarray


class Place:
    def active(self):
        return contextlib.nullcontext()

    def rows(self):
        return 0, 1


class Batches:
    """Batches without end; the place is the number of the next."""

    def __init__(self, place):
        self.place = place

    def __iter__(self):
        while True:
            self.place += 1
            yield {name: np.ones((1, 2)) for name in ("encoder_segment_ids", "decoder_segment_ids")}

    def get_state(self):
        return {"place": self.place}


class Killed(BaseException):
    """Ends a process without a chance to do anything."""


def train(folder, train_steps, validate, *, eval_period=2, checkpoint_period=100):
    checkpointer = Checkpointer(str(folder), keep=None, keep_best=1)
    state, place = State(jnp.int32(0), jnp.float32(0)), {"place": 0}
    restored = checkpointer.restore(state)
    if restored is not None:
        state, place = restored
    config = TrainConfig(
        mixture_or_task_name="toy",
        model_dir=str(folder),
        train_steps=train_steps,
        log_period=1,
        eval_period=eval_period,
        checkpoint_period=checkpoint_period,
    )
    return loop.Loop(
        state=state,
        start=int(state.step),
        loader=Batches(place["place"]),
        train_step=lambda state, batch: (State(state.step + 1, state.params + 1), {"loss": state.params}),
        checkpointer=checkpointer,
        guard=Guard(str(folder), 1, lambda step: [], write=True),
        place=Place(),
        config=config,
        validate=validate,
        best_by=lambda scores: ("accuracy", scores["accuracy"]),
        listener=Listener(),
    ).run()


def validated(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["validation/accuracy"] for line in lines if "validation/accuracy" in line}


def accuracy(params):
    return {"accuracy": float(params) / 10}


def test_sigterm_during_a_validation_loses_neither_it_nor_the_checkpoint(tmp_path):
    def stopped(params):
        os.kill(os.getpid(), signal.SIGTERM)
        return accuracy(params)

    with pytest.raises(Preempted, match="saved at step 2 of 5"):
        train(tmp_path, 5, stopped)
    assert steps(str(tmp_path)) == [2]
    assert validated(tmp_path) == {2: 0.2}
    seen = []
    train(tmp_path, 5, lambda params: seen.append(float(params)) or accuracy(params))
    assert seen == [4.0, 5.0]
    assert validated(tmp_path) == {2: 0.2, 4: 0.4, 5: 0.5}
    assert pick_step(str(tmp_path), "best") == 5


def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    """As a shell has it for what it starts with `&`."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:

        def interrupted(params):
            os.kill(os.getpid(), signal.SIGINT)
            return accuracy(params)

        train(tmp_path, 3, interrupted)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert steps(str(tmp_path)) == [2, 3]


@pytest.mark.parametrize("train_steps", [4, 2])
def test_a_validation_that_was_killed_is_done_after_the_resume(tmp_path, train_steps):
    def killed(params):
        raise Killed

    with pytest.raises(Killed):
        train(tmp_path, train_steps, killed)
    assert steps(str(tmp_path)) == [2]
    result = train(tmp_path, train_steps, accuracy)
    assert validated(tmp_path) == {step: step / 10 for step in (2, 4) if step <= train_steps}
    assert result["validation/accuracy"] == train_steps / 10
    assert train(tmp_path, train_steps, killed)["steps"] == train_steps  # nothing is left to do


def test_sigterm_at_a_step_that_is_to_be_validated_leaves_it_to_the_next_process(tmp_path, monkeypatch):
    original = loop.MetricWriter.write

    def write(self, step, *args):
        original(self, step, *args)
        if step == 1 and not list(tmp_path.glob("checkpoints/*")):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop.MetricWriter, "write", write)
    with pytest.raises(Preempted, match="saved at step 2 of 3"):
        train(tmp_path, 3, accuracy)
    assert validated(tmp_path) == {}
    train(tmp_path, 3, accuracy)
    assert validated(tmp_path) == {2: 0.2, 3: 0.3}


def test_the_last_step_is_validated_whatever_the_period(tmp_path):
    train(tmp_path, 3, accuracy, eval_period=100)
    assert validated(tmp_path) == {3: 0.3}


@pytest.mark.parametrize(("platform", "ahead"), [("cpu", 0), ("tpu", loop.STEPS_AHEAD)])
def test_only_few_steps_wait_behind_the_one_that_runs(monkeypatch, platform, ahead):
    class Loss:
        """Of a step that is done when somebody waits for it."""

        done = False

        def devices(self):
            return [types.SimpleNamespace(platform=platform)]

    monkeypatch.setattr(loop.jax, "block_until_ready", lambda metrics: setattr(metrics["loss"], "done", True))
    guard = Guard("", 1, lambda step: [], write=False)
    pending, losses = loop._Pending(guard, 0), [Loss() for _ in range(6)]
    for number, loss in enumerate(losses, 1):
        pending.add({"loss": loss})
        waited_for = max(number - ahead, 0)
        assert [one.done for one in losses] == [True] * waited_for + [False] * (6 - waited_for)
