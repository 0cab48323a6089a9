"""Gin files of our own engine are data: macros alone, read by gin's parser, and nothing of gin is changed."""

import gin
import pytest

from distill_jax.config import ModelOptions, Sources, TrainConfig, build, gin_files
from distill_jax.errors import UserError

TASK = {"mixture_or_task_name": "svamp", "model_dir": "run"}


def made(folder, text, **values):
    (folder / "run.gin").write_text(text)
    return build(TrainConfig, Sources(gin_files=["run.gin"], search_paths=[str(folder)]), **TASK, **values)


def test_macros_includes_and_references(tmp_path):
    (tmp_path / "rates.gin").write_text("FAST = 1e-2\nLEARNING_RATE = %FAST\nALPHA = 0.25\n")
    config = made(tmp_path, "# a comment\ninclude 'rates.gin'\nFAST = 3e-2\nALPHA = 0.75\nMESH = {'data': 2}\n")
    assert (config.learning_rate, config.alpha, config.mesh) == (3e-2, 0.75, {"data": 2})


def test_shipped_files_are_found_and_hold_options_alone():
    for path in gin_files.find("models/byt5/small.gin").parents[2].glob("[mr][!e][!t]*/**/*.gin"):
        build(TrainConfig, Sources(gin_files=[str(path)]), **TASK)
    assert build(TrainConfig, Sources(gin_files=["recipes/soft_labels.gin"]), **TASK).method == "soft_labels"
    assert build(ModelOptions, Sources(model="byt5/xl")).num_encoder_layers == 36


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "from __gin__ import dynamic_registration\n",
            r"run.gin, line 1: 'from __gin__ .* which only T5X does",
        ),
        ("ALPHA = 0.5\nimport os\n", "line 2: 'import os'"),
        ("\ntrainer.train.seed = 3\n", "line 2: 'trainer.train.seed = 3' wires code"),
        ("trainer.train:\n  seed = 3\n", "line 1: .* wires code"),
        ("LEARNING_RATE = @schedules.constant()\n", "line 1: --learning-rate .*expected a number"),
        ("ALHPA = 0.5\n", "line 1: no option is called ALHPA; did you mean ALPHA?"),
        ("ALPHA = %NOTHING\n", "line 1: %NOTHING"),
        ("ALPHA = %ALPHA\n", "line 1: ALPHA refers to itself"),
        ("A = %B\nB = %A\nALPHA = %A\n", "refers to itself"),
        (
            "ALPHA = 2\n",
            r"line 1: --alpha \(ALPHA\): expected a number of at least 0 and up to 1, got 2",
        ),
        ("ALPHA = \n", "run.gin, line 1"),
        ("include 'run.gin'\n", "includes itself"),
        ("include 'recipes/standart.gin'\n", "did you mean recipes/standard.gin?"),
    ],
)
def test_what_is_not_data_is_refused_by_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        made(tmp_path, text)
    assert "\n" not in str(error.value)


def test_nothing_is_imported_and_gins_own_configuration_stays(tmp_path):
    before = gin.config_str()
    made(tmp_path, "ALPHA = 0.5\n")
    assert gin.config_str() == before


@pytest.mark.parametrize(
    "text",
    [
        "import os\nos.system.command = '{command}'\nALPHA = @os.system()\n",
        "from __gin__ import dynamic_registration\nimport subprocess\nALPHA = @subprocess.getoutput()\n",
        "ALPHA = @os.system('{command}')\n",
        "ALPHA = __import__('os').system('{command}')\n",
        "ALPHA = %os.system\n",
        "MODEL_DIR = @eval/os.system()\n",
        "include 'other.gin'\n",
    ],
)
def test_no_attack_runs_anything(tmp_path, monkeypatch, text):
    ran = []
    monkeypatch.setattr("os.system", ran.append)
    monkeypatch.setattr("subprocess.getoutput", lambda *command: ran.append(command))
    (tmp_path / "other.gin").write_text("import os\nALPHA = @os.system()\n")
    with pytest.raises(UserError, match=r"(run|other)\.gin, line \d"):
        made(tmp_path, text.format(command=f"touch {tmp_path / 'mark'}"))
    assert not ran and not (tmp_path / "mark").exists()
