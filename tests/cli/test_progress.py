"""What a run prints: to a pipe, as JSON, and nothing."""

import types

import jax
import pytest

import distill_jax
from distill_jax.cli import main as cli
from distill_jax.cli import progress


def test_a_pipe_gets_a_line_each_ten_seconds_and_the_last(monkeypatch, capsys):
    clock = iter([100.0, 100.0, 105.0, 111.0, 111.0, 112.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(progress, "header", lambda run, step: {"rows": "3"})
    bar = progress.ProgressBar()
    bar.begin(types.SimpleNamespace(config=types.SimpleNamespace(train_steps=40)), 0)
    for step in (10, 20, 30, 40):
        bar.train(step, {"loss": 1.0, "label_loss": 0.5}, 1234.0, 9.0)
    bar.close()
    head, *lines = capsys.readouterr().err.splitlines()
    assert head == "rows     3" and lines[0] == "compiling the first step"
    assert lines[1] == "time     about 12 s for 40 steps of 0.3 s"
    text = "loss 1.000  label 0.500  1,234 tokens/s  9 s left"
    assert lines[2:] == [f"step {step}/40  {text}" for step in (10, 30, 40)]


def test_the_first_step_alone_does_not_tell_how_long_a_run_takes(monkeypatch, capsys):
    monkeypatch.setattr(progress, "header", lambda run, step: {})
    bar = progress.ProgressBar()
    bar.begin(types.SimpleNamespace(config=types.SimpleNamespace(train_steps=40)), 20)
    bar.train(21, {"loss": 1.0}, 1.0, 190.0)
    assert "time " not in capsys.readouterr().err
    bar.train(22, {"loss": 1.0}, 1.0, 18.0)
    assert "time     about 20 s for 20 steps of 1 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.4, "0 s"), (119, "119 s"), (150, "2 min"), (9000, "2.5 h"), (260_000, "3.0 days")]
)
def test_a_duration_is_in_the_unit_that_it_has_two_of(seconds, told):
    assert progress.duration(seconds) == told


@pytest.mark.parametrize(("words", "status"), [("RESOURCE_EXHAUSTED: 34.8GiB", 1), ("INTERNAL: other", None)])
def test_memory_that_is_not_there_is_one_line(words, status, monkeypatch, capsys):
    def fails(config, **objects):
        raise jax.errors.JaxRuntimeError(words)

    monkeypatch.setattr(distill_jax, "train", fails)
    train = ["train", "entailment", "--init", "none"]
    if status is None:
        with pytest.raises(jax.errors.JaxRuntimeError):
            cli.main(train)
        return
    assert cli.main(train) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: out of memory ({words}): lower --batch-size (BATCH_SIZE) or --lengths")


def test_the_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert not stopped.value.code and capsys.readouterr().out.startswith("distill-jax 0.")
