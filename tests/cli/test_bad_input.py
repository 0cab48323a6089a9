"""Bad input from the command line: one line that names the file and the row, status 1, nothing lost."""

import errno
import json

import pytest

from distill_jax.cli import main as cli
from distill_jax.data import prepare as prepare_module

TRAIN = ("train", "svamp", "--model", "byt5/tiny", "--lengths", "64,32", "--steps", "1", "--batch-size", "2")


@pytest.fixture(autouse=True)
def svamp(tmp_path, monkeypatch):
    """A small SVAMP in the paper's layout, for a test to spoil."""
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DISTILL_JAX_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("DISTILL_JAX_TEACHER", raising=False)
    folder = tmp_path / "svamp"
    (folder / "llm").mkdir(parents=True)
    for split in ("train", "test"):
        rows = [{"input": f"{n} birds?", "label": f"( {n} + 1 )"} for n in range(20)]
        (folder / f"svamp_{split}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
        completions = [f"{n} and 1. The answer is ({n} + 1).\n\nQ: next" for n in range(20)]
        (folder / "llm" / f"{split}_CoT_0.json").write_text(json.dumps(completions))
    return folder


def error_of(capsys, *command):
    """The line on stderr of a command that must fail with status 1."""
    capsys.readouterr()
    assert cli.main(list(command)) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert not any("Traceback" in line for line in lines)
    return lines[-1]


def prepare_error(capsys, method="step_by_step"):
    command = ("prepare", "svamp", "--method", method, "--vocabulary", "bytes", "--lengths", "128,96")
    return error_of(capsys, *command)


def replace_line(path, number, line):
    lines = path.read_text().splitlines()
    lines[number - 1] = line
    path.write_text("\n".join(lines) + "\n")


def test_missing_file(svamp, capsys):
    (svamp / "svamp_train.json").unlink()
    assert "svamp_train.json: no such file" in prepare_error(capsys)


def test_truncated_file(svamp, capsys):
    path = svamp / "svamp_train.json"
    path.write_text(path.read_text()[:-10])
    assert "svamp_train.json, line 20: invalid JSON" in (line := prepare_error(capsys))
    assert "may be cut short" in line


def test_invalid_json(svamp, capsys):
    replace_line(svamp / "svamp_train.json", 7, '{"input": "a", "label"}')
    assert "svamp_train.json, line 7: invalid JSON" in prepare_error(capsys)


@pytest.mark.parametrize("field", ["input", "label"])
def test_row_without_input_or_label(svamp, capsys, field):
    row = {"input": "a", "label": "b"}
    del row[field]
    replace_line(svamp / "svamp_train.json", 3, json.dumps(row))
    assert f"svamp_train.json, line 3: no '{field}' in this row" in prepare_error(capsys)


def test_fewer_completions_than_rows(svamp, capsys):
    path = svamp / "llm" / "train_CoT_0.json"
    path.write_text(json.dumps(json.loads(path.read_text())[:12]))
    assert "line 13: fewer completions than rows" in prepare_error(capsys)


def test_unknown_names(capsys, tmp_path):
    folder = ("--model-dir", str(tmp_path / "run"))
    assert "did you mean svamp?" in error_of(capsys, "train", "svmap", *folder)
    assert "did you mean TRAIN_STEPS?" in error_of(capsys, *TRAIN, *folder, "--gin.TRAIN_STEPZ=1")
    assert "models/t5_1_1/giant.gin" in error_of(capsys, "train", "svamp", "--model", "t5_1_1/giant", *folder)
    assert "MIXTURE_OR_TASK_MODULE 'no_module'" in error_of(capsys, *TRAIN, *folder, "--module", "no_module")
    assert not (tmp_path / "run").exists()


def test_lengths_that_cut_targets_are_told_with_the_count(capsys, caplog):
    command = ("prepare", "svamp", "--vocabulary", "bytes", "--lengths", "64,6")
    assert cli.main(list(command)) == 0
    assert "36 of 36 targets are longer than 6 tokens and were cut" in caplog.text


def test_full_disk(svamp, capsys, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(prepare_module, "encode_row", full)
        line = prepare_error(capsys)
    assert "no space left" in line.lower()
    assert "\n" not in line
    command = ("prepare", "svamp", "--vocabulary", "bytes", "--lengths", "128,96")
    assert cli.main(list(command)) == 0  # nothing half-written is in the way


@pytest.mark.slow
def test_folder_of_another_run(capsys, tmp_path):
    small = ("--gin.NUM_ENCODER_LAYERS=1", "--gin.EMB_DIM=32", "--gin.MLP_DIM=64")
    folder = ("--model-dir", str(tmp_path / "run"), "--gin.EVAL_PERIOD=0", *small)
    assert cli.main([*TRAIN, *folder]) == 0
    before = (tmp_path / "run" / "run.json").read_text()
    line = error_of(capsys, *TRAIN, *folder, "--seed", "3")
    assert "holds a different run (seed was 0, now 3)" in line or "seed was 0, now 3" in line
    assert (tmp_path / "run" / "run.json").read_text() == before
    assert "choose another MODEL_DIR" in line


def test_own_data(capsys, tmp_path):
    path = tmp_path / "own.csv"
    path.write_text('question,answer\n"a",b\n"",c\n')
    command = ("data", "stats", "--data", str(path), "--input", "question", "--vocabulary", "bytes")
    assert "own.csv, row 1: no label and no rationale" in error_of(capsys, *command)
    assert "own.csv, row 2: expected text in 'question'" in error_of(capsys, *command, "--label", "answer")
    assert "give a task (svamp) or --data" in error_of(capsys, "data", "stats", "svamp", "--data", str(path))
    assert "give a task, such as svamp" in error_of(capsys, "data", "stats")
    path.write_text("question,answer\na\n")
    assert "own.csv, row 1: expected the 2 columns" in error_of(capsys, *command, "--label", "answer")
