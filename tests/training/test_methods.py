"""Every method from one command on the user's own file, and gone on with from a checkpoint."""

import json
import shutil

import jax
import numpy as np
import pytest

from distill_jax.checkpoints import orbax as checkpoints
from distill_jax.cli import main as cli
from distill_jax.data.views import METHODS

pytestmark = pytest.mark.slow
COLUMNS = ["--input", "question", "--label", "answer", "--rationale", "why"]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILL_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def train(data, folder, method, steps, *flags):
    command = ["train", "--data", data, *COLUMNS, "--method", method, "--model", "byt5/tiny", *flags]
    command += ["--steps", str(steps), "--batch-size", "2", "--lengths", "96,64", "--model-dir", str(folder)]
    gin = {"EVAL_PERIOD": 0, "CHECKPOINT_PERIOD": 2, "LOG_PERIOD": 1, "SCHEDULE": "@schedules.constant()"}
    gin |= {"NUM_ENCODER_LAYERS": 1, "EMB_DIM": 32, "MLP_DIM": 64}
    return cli.main([*command, *(f"--gin.{name}={value}" for name, value in gin.items())])


@pytest.fixture(scope="module")
def teacher(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    assert train(data, folder, "step_by_step", 1) == 0
    return str(folder)


@pytest.mark.parametrize("method", METHODS)
def test_method(method, data, teacher, tmp_path):
    """What a run holds after its second step, of three, ends as the run itself did."""
    flags = ["--teacher-checkpoint", teacher] if method == "logit_distillation" else []
    assert train(data, tmp_path / "whole", method, 3, *flags) == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts/checkpoints/3")
    assert checkpoints.steps(str(tmp_path / "parts")) == [2]
    assert train(data, tmp_path / "parts", method, 3, *flags) == 0
    lines = [json.loads(line) for line in (tmp_path / "parts/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert all(np.isfinite(line["train/loss"]) for line in lines)
    whole, parts = (checkpoints.restore_params(str(tmp_path / name)) for name in ("whole", "parts"))
    jax.tree.map(np.testing.assert_array_equal, whole, parts)
