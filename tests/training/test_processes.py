"""Runs of several real processes on this machine: the same curve, whatever dies on the way."""

import importlib.util
import pathlib
import shutil
import signal

import numpy as np
import pytest

from distill_jax.cli import main as cli

_spec = importlib.util.spec_from_file_location("processes", pathlib.Path(__file__).parent / "processes.py")
processes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(processes)
Job, losses = processes.Job, processes.losses

pytestmark = pytest.mark.slow
MESH = {"data": 2, "fsdp": 2}
STEPS = 40


def steps(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit())


def same(found, expected, count):
    """Whether the losses are the expected ones but for rounding, which grows from step to step."""
    assert sorted(found) == list(range(1, count + 1))
    for first, last, rtol in ((1, 20, 1e-5), (21, count, 1e-4)):
        numbers = range(first, min(last, count) + 1)
        np.testing.assert_allclose([found[n] for n in numbers], [expected[n] for n in numbers], rtol=rtol)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def cache(root):
    return root / "cache"


def train_here(folder, cache, **options):
    """Trains in this process, which has one device; the losses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILL_JAX_CACHE", str(cache))
        assert cli.main(["train", *processes.arguments(folder, mesh={"data": 1}, **options)]) == 0
    return losses(folder)


@pytest.fixture(scope="module")
def expected(root, cache):
    """The curve of one device that nothing disturbs."""
    return train_here(root / "one", cache, steps=STEPS, period=STEPS)


def reached(job, folder, when):
    """Waits till the run is where it is to be killed."""

    def folders():
        return [path.name for path in (folder / "checkpoints").glob("*")]

    job.until(
        {
            "start": (folder / "checkpoints").exists,  # restoring and compiling is ahead
            "step": lambda: len(losses(folder)) >= 7,
            "checkpoint": lambda: len(losses(folder)) >= 9 and any(not name.isdigit() for name in folders()),
        }[when]
    )


@pytest.fixture(scope="module")
def killed(root, cache):
    """By place: a run of two processes with two devices each, one of which is killed there, and the other.

    One after another: later runs find the programs of the first compiled. Each other one waits half a minute
    for a sign of life, while the next test goes on.
    """
    runs = {}
    for when, lost in (("checkpoint", 1), ("step", 0), ("start", 1)):
        folder = root / f"killed_{when}"
        job = Job(folder, cache, 2, steps=STEPS, period=5, devices=2, mesh=MESH)
        reached(job, folder, when)
        job.processes[lost].send_signal(signal.SIGKILL)
        runs[when] = job, 1 - lost
    yield runs
    for job, _ in runs.values():
        job.kill()


@pytest.fixture(scope="module")
def stopped(root, cache, killed):
    """A run of four processes with parameters sharded over them, one of which is told to stop."""
    job = Job(root / "four", cache, 4, steps=STEPS, period=1000, mesh={"fsdp": 2, "model": 2})
    job.until(lambda: len(losses(job.folder)) >= 5)
    job.processes[1].send_signal(signal.SIGTERM)
    assert job.wait() == [143] * 4, job.output()
    return job


def test_sigterm_to_one_process_saves_in_all(stopped, expected):
    (saved,) = steps(stopped.folder)
    assert f"saved at step {saved} of {STEPS}" in stopped.output()
    same(losses(stopped.folder), expected, saved)


def test_fewer_processes_go_on_with_the_run_of_four(root, cache, stopped, expected):
    """With parameters sharded over three processes, then in one."""
    folder = root / "fewer"
    shutil.copytree(stopped.folder, folder)
    (saved,) = steps(folder)
    three = Job(folder, cache, 3, steps=saved + 3, period=1000, mesh={"fsdp": 3})
    assert three.wait() == [0] * 3, three.output()
    same(losses(folder), expected, saved + 3)
    assert steps(folder) == [saved, saved + 3]
    same(train_here(folder, cache, steps=saved + 6), expected, saved + 6)


def test_an_error_of_one_process_ends_all(root, cache, stopped):
    shutil.copytree(stopped.folder, root / "other")
    job = Job(root / "other", cache, 2, steps=STEPS, devices=2, mesh=MESH, extra=["--gin.RANDOM_SEED=7"])
    statuses = job.wait(90)
    assert 0 not in statuses
    assert "holds a different run" in job.output()


def test_a_kill_ends_the_other_and_both_resume(cache, killed, expected):
    for when, (job, other) in killed.items():
        status = job.processes[other].wait(60)
        assert status != 0, (when, job.output(other))
    folder = killed["checkpoint"][0].folder
    saved = steps(folder)
    assert saved and saved[-1] < STEPS
    last = min(saved[-1] + 5, STEPS)
    extra = [f"--gin.EVAL_PERIOD={last}", "--gin.EVAL_EXAMPLES=3"]
    again = Job(folder, cache, 2, steps=last, period=5, devices=2, mesh=MESH, extra=extra)
    assert again.wait() == [0, 0], again.output()
    assert '"validation/label_accuracy"' in (folder / "metrics.jsonl").read_text()
    same(losses(folder), expected, last)
    assert steps(folder)[-1] == last
