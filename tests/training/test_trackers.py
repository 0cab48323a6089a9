"""Metrics to Weights & Biases and MLflow, by stand-ins with the calls of both."""

import sys
import types

import pytest

from distill_jax.cli import main as cli
from distill_jax.config import TrainConfig
from distill_jax.errors import UserError
from distill_jax.training import trackers
from distill_jax.training.metrics import MetricWriter


@pytest.fixture
def config(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    return TrainConfig(mixture_or_task_name="svamp", model_dir=str(tmp_path), wandb="mine", mlflow="file:x")


@pytest.fixture
def calls(monkeypatch):
    """What is called of stand-ins for both packages, in order; MLflow knows the runs of `calls.before`."""
    found = types.SimpleNamespace(made=[], before=[])

    def noted(name, result=None):
        return lambda *args, **kwargs: found.made.append((name, args, kwargs)) or result

    run = types.SimpleNamespace(**{name: noted(name) for name in ("define_metric", "log", "finish")})
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=noted("init", run)))
    names = "set_tracking_uri set_experiment start_run log_params log_metrics end_run".split()
    mlflow = types.SimpleNamespace(**{name: noted(name) for name in names})
    mlflow.search_runs = lambda **kwargs: found.made.append(("search_runs", (), kwargs)) or found.before
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    return found


def test_both_get_what_metrics_jsonl_gets(config, calls):
    writer = MetricWriter(config.model_dir, 0, trackers.Trackers(config))
    writer.write(3, {"loss": 0.5})
    writer.write(3, {"accuracy": 1.0}, "validation")
    writer.close()
    by_name = {}
    for name, args, kwargs in calls.made:
        by_name.setdefault(name, []).append((args, kwargs))
    assert by_name["init"][0][1]["project"] == "mine" and by_name["init"][0][1]["resume"] == "allow"
    logged = [args[0] for args, _ in by_name["log"]]
    assert logged == [{"step": 3, "train/loss": 0.5}, {"step": 3, "validation/accuracy": 1.0}]
    assert by_name["set_tracking_uri"] == [(("file:x",), {})]
    assert [(args[0], kwargs) for args, kwargs in by_name["log_metrics"]] == [
        ({"train/loss": 0.5}, {"step": 3}),
        ({"validation/accuracy": 1.0}, {"step": 3}),
    ]
    assert by_name["log_params"][0][0][0]["mixture_or_task_name"] == "svamp"
    assert len(by_name["finish"]) == len(by_name["end_run"]) == 1


def test_a_resumed_run_goes_on_in_its_own_record(config, calls):
    trackers.Trackers(config)
    calls.before = [types.SimpleNamespace(info=types.SimpleNamespace(run_id="r1"))]
    trackers.Trackers(config)
    starts = [kwargs for name, _, kwargs in calls.made if name == "start_run"]
    ids = [kwargs["id"] for name, _, kwargs in calls.made if name == "init"]
    assert starts[1] == {"run_id": "r1"} and starts[0]["tags"] == {"distill_jax": ids[0]} and ids[0] == ids[1]
    assert [name for name, _, _ in calls.made].count("log_params") == 1


def test_a_service_that_refuses_is_one_line(config, calls, monkeypatch):
    def refuse(**kwargs):
        raise RuntimeError("no key\nlog in first")

    monkeypatch.setattr(sys.modules["wandb"], "init", refuse)
    with pytest.raises(UserError, match="--wandb mine: no key$"):
        trackers.Trackers(config)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_package_that_is_missing_is_named_before_anything_is_built(name, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, name, None)
    command = ["train", "svamp", "--steps", "1", "--model-dir", str(tmp_path / "run"), f"--{name}", "x"]
    assert cli.main(command) == 1
    told = capsys.readouterr().err
    assert told == f"error: --{name} needs {name}: pip install 'distill_jax[{name}]'\n"
    assert not (tmp_path / "run").exists()
