"""Whole runs of a tiny student on the generated task."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import time

import jax
import numpy as np
import pytest
from tiny_student import TINY

from distill_jax.checkpoints import orbax as checkpoints
from distill_jax.config import Sources, TrainConfig, build
from distill_jax.decoding.student import load_student
from distill_jax.errors import UserError
from distill_jax.evaluation.evaluator import Evaluator, make_evaluator
from distill_jax.tasks import registry
from distill_jax.training import loop, microbatches, optimizers, schedules, trainer
from distill_jax.training.listener import Listener
from distill_jax.training.preemption import Preempted

CONFIG = dataclasses.replace(TINY, dropout_rate=0.1)
OPEN = pathlib.Path("/proc/self/fd")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILL_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def config_of(folder, steps, **changes):
    options = {
        **dataclasses.asdict(CONFIG),
        "model_dir": str(folder),
        "mixture_or_task_name": "entailment_step_by_step",
        "task_feature_lengths": {"inputs": 96, "targets": 48},
        "vocabulary": "train:600",
        "schedule": "constant",
        "learning_rate": 1e-2,
        "warmup_steps": 2,
        "batch_size": 4,
        "train_steps": steps,
        "num_examples": 40,
        "log_period": 1,
        "eval_period": 0,
        "checkpoint_period": 3,
    }
    return TrainConfig(**options | changes)


def train(folder, steps, **changes):
    objects = {name: changes.pop(name) for name in ("optimizer", "evaluator", "listener") if name in changes}
    return trainer.train(config_of(folder, steps, **changes), **{"evaluator": make_evaluator, **objects})


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder):
    return {line["step"]: line["train/loss"] for line in lines(folder)}


def assert_equal_runs(folder, other):
    """Equal losses at every step, and equal parameters at the last."""
    assert losses(folder) == losses(other)
    jax.tree.map(
        np.testing.assert_array_equal,
        checkpoints.restore_params(str(folder)),
        checkpoints.restore_params(str(other)),
    )


@pytest.fixture(scope="module")
def undisturbed(cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    train(folder, 8)
    return folder


def test_a_stopped_and_resumed_run_ends_like_one_that_never_stopped(undisturbed, tmp_path):
    train(tmp_path, 5)
    train(tmp_path, 8)
    assert_equal_runs(tmp_path, undisturbed)


def test_a_run_killed_after_a_checkpoint_repeats_what_it_lost(undisturbed, tmp_path):
    class Killed(BaseException):
        pass

    class Killer(Listener):
        def train(self, step, *args):
            if step == 5:
                raise Killed

    with pytest.raises(Killed):
        train(tmp_path, 8, listener=Killer())
    assert checkpoints.steps(str(tmp_path)) == [3]
    train(tmp_path, 8)
    assert losses(tmp_path) == losses(undisturbed)


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before_it(undisturbed, tmp_path, caplog):
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    file = max((folder / "checkpoints" / "8").rglob("*"), key=lambda path: path.stat().st_size)
    file.write_bytes(file.read_bytes()[:-1])
    train(folder, 8)
    assert_equal_runs(folder, undisturbed)
    assert "checkpoint 8 is damaged, " in caplog.text and "goes back to that of step 6" in caplog.text


def test_the_loss_of_both_views_falls(undisturbed):
    first, last = lines(undisturbed)[0], lines(undisturbed)[-1]
    assert last["train/label_loss"] < first["train/label_loss"]
    assert last["train/rationale_loss"] < first["train/rationale_loss"]


def test_another_run_is_kept_out_of_the_folder(undisturbed):
    with pytest.raises(UserError, match="holds a different run .*seed was 0, now 1"):
        train(undisturbed, 8, seed=1)


def test_the_latest_and_the_best_checkpoints_are_kept(tmp_path):
    scores = iter([0.1, 0.9, 0.2, 0.3])

    def evaluator(run):
        return lambda params, split: {"label_accuracy": next(scores)}

    options = {"eval_period": 1, "checkpoint_period": 1, "keep_checkpoints": 1, "evaluator": evaluator}
    train(tmp_path, 3, **options)
    train(tmp_path, 4, **options)  # the scores of before are still known
    assert checkpoints.steps(str(tmp_path)) == [2, 4]
    assert checkpoints.pick_step(str(tmp_path), "best") == 2


@pytest.mark.skipif(not OPEN.exists(), reason="not Linux")
def test_a_validation_leaves_no_file_open(tmp_path):
    """Else the thousandth of a run finds too many open files, and takes its prepared records for damaged."""
    opened = []

    def evaluator(run):
        def evaluate(params, split):
            opened.append(sum("array_record" in os.path.realpath(path) for path in OPEN.iterdir()))
            return {"label_accuracy": 0.0}

        return evaluate

    train(tmp_path, 3, eval_period=1, evaluator=evaluator)
    assert opened[0] > 0 and opened == [opened[0]] * 3


def test_a_run_starts_from_another_run(undisturbed, tmp_path):
    started = train(tmp_path / "b", 1, initial_checkpoint_path=str(undisturbed))
    fresh = train(tmp_path / "c", 1)
    assert started["loss"] < fresh["loss"]


def test_a_checkpoint_of_another_shape_names_the_parameter(undisturbed, tmp_path):
    with pytest.raises(UserError, match=r"mlp/w.*\[16, 32\].*\[16, 64\]"):
        train(tmp_path, 1, mlp_dim=64, initial_checkpoint_path=str(undisturbed))


def test_the_recipe_must_fit_the_mixture(tmp_path):
    with pytest.raises(UserError, match="take the recipe of the same method"):
        train(tmp_path, 1, view_weights={"label": 1.0})


def test_too_small_a_vocabulary_size_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"--vocab-size \(VOCAB_SIZE\) is 128, but the vocabulary has"):
        train(tmp_path, 1, vocab_size=128)


def test_a_full_disk_stops_with_one_line(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("orbax.checkpoint.CheckpointManager.save", full)
    with pytest.raises(
        UserError, match="no space left on the disk: free some, or choose another --model-dir .*; a run resumes"
    ):
        train(tmp_path, 3)


def test_evaluation_needs_nothing_but_the_folder(undisturbed):
    student = load_student(str(undisturbed))
    run = dataclasses.replace(student.run, task_feature_lengths={"inputs": 64, "targets": 8})
    student = dataclasses.replace(student, run=run)
    evaluation = Evaluator(student, batch_size=8, num_examples=11).evaluate(student.params(), "test")
    examples = list(registry.get_task("entailment").source.examples("test"))[:11]
    assert [row["id"] for row in evaluation.rows] == [e.id for e in examples]
    right = [row["predicted_label"] == e.label for row, e in zip(evaluation.rows, examples, strict=True)]
    assert evaluation.metrics["label_accuracy"] == pytest.approx(np.mean(right))
    assert evaluation.metrics["teacher_accuracy"] == 1.0
    assert 0.0 <= evaluation.metrics["rationale_rougeL"] <= 1.0


def test_a_missing_checkpoint_is_named(undisturbed, tmp_path):
    with pytest.raises(UserError, match="no checkpoint of step 7; there are"):
        checkpoints.restore_params(str(undisturbed), 7)
    with pytest.raises(UserError, match="no complete checkpoint in there"):
        checkpoints.steps(str(tmp_path))


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_saves_and_goes_on_from_there(undisturbed, tmp_path, number):
    handler = signal.getsignal(number)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Preempted, match="saved at step 5 of 8"):
        original = loop.MetricWriter.write

        def write(self, step, *args):
            original(self, step, *args)
            if step == 4:
                os.kill(os.getpid(), number)

        patch.setattr(loop.MetricWriter, "write", write)
        train(tmp_path, 8, checkpoint_period=100)
    assert checkpoints.steps(str(tmp_path)) == [5] and signal.getsignal(number) is handler
    train(tmp_path, 8)
    assert losses(tmp_path) == losses(undisturbed)


@pytest.mark.usefixtures("heard")
def test_a_second_interruption_ends_it_at_once(tmp_path):
    before = signal.getsignal(signal.SIGINT)

    class Stop(Listener):
        def train(self, step, *args):
            os.kill(os.getpid(), signal.SIGINT)
            while signal.getsignal(signal.SIGINT) is not before:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)  # the signal comes before

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, 8, listener=Stop(), checkpoint_period=100)


def test_updates_that_are_not_finite_are_skipped_up_to_a_limit(tmp_path):
    spoiled = schedules.constant(float("inf"))  # every update would make the parameters infinite
    with pytest.raises(UserError, match=r"step 3: .* the update was not finite, as in 3 steps in a row"):
        train(tmp_path, 8, optimizer=optimizers.adamw(spoiled), max_skipped_steps=2, log_period=2)
    skipped = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert [line["step"] for line in skipped] == [1, 2, 3]
    ids = [example.id for example in registry.get_task("entailment").source.examples("train")]
    assert all(line["examples"] and set(line["examples"]) <= set(ids) for line in skipped)


def test_a_batch_that_does_not_divide_into_parts_is_padded_and_trains_the_same(tmp_path, monkeypatch):
    options = {"dropout_rate": 0.0, "batch_size": 5, "learning_rate": 1e-3}
    train(tmp_path / "whole", 2, **options)
    monkeypatch.setattr(microbatches, "TOKENS", 3 * (96 + 48))
    train(tmp_path / "parts", 2, **options)
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)
    assert json.loads((tmp_path / "parts" / "header.json").read_text())["batch"].endswith(", in 2 parts")


def test_another_rate_schedule_or_start_is_another_run(undisturbed):
    before = (undisturbed / "config.json").read_text()
    with pytest.raises(UserError, match=r"different run \(learning_rate was 0.01, now 0.1\)"):
        train(undisturbed, 8, learning_rate=0.1)
    with pytest.raises(UserError, match="schedule was 'constant', now 'linear'"):
        train(undisturbed, 8, schedule="linear")
    with pytest.raises(UserError, match="initial_checkpoint_path was None"):
        train(undisturbed, 8, initial_checkpoint_path=str(undisturbed))
    with pytest.raises(UserError, match="optimizer was 'adamw', now 'adafactor'"):
        trainer.train(config_of(undisturbed, 8, optimizer="adafactor"))
    assert (undisturbed / "config.json").read_text() == before


def test_more_steps_after_a_schedule_has_ended_are_refused_and_before_it_told(tmp_path, caplog):
    class Stop(Listener):
        def train(self, step, *args):
            if step == 4:
                os.kill(os.getpid(), signal.SIGTERM)

    options = {"schedule": "linear", "warmup_steps": 0}
    with pytest.raises(Preempted):
        train(tmp_path, 10, listener=Stop(), **options)
    train(tmp_path, 8, **options)
    assert (
        "--steps (TRAIN_STEPS) was 10, now 8: the linear learning rate after step 5 is 0.00375 instead of 0.005"
        in caplog.text
    )
    with pytest.raises(
        UserError, match=r"learning rate fell to 0 at step 8, and 12 steps .*--init .*--model-dir NEW"
    ):
        train(tmp_path, 12, **options)


def test_the_saved_configuration_gives_the_same_run_again(undisturbed, tmp_path):
    config = build(TrainConfig, Sources(config=str(undisturbed)), {"model_dir": str(tmp_path / "again")})
    trainer.train(config, evaluator=make_evaluator)
    assert losses(tmp_path / "again") == losses(undisturbed)
