"""Bad input from the command line: one line that names the file and the row, status 1, nothing lost."""

import errno
import json
import pathlib
import re
import shutil

import pyarrow
import pyarrow.parquet
import pytest

from distill_jax.cli import main as cli
from distill_jax.data import prepare as prepare_module
from distill_jax.data.vocabularies import train_vocabulary

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
    assert "--model t5_1_1/giant: no such model" in error_of(
        capsys, "train", "svamp", "--model", "t5_1_1/giant", *folder
    )
    assert "--module (MIXTURE_OR_TASK_MODULE) 'no_module'" in error_of(
        capsys, *TRAIN, *folder, "--module", "no_module"
    )
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
    assert "choose another --model-dir (MODEL_DIR)" in line


@pytest.fixture
def damaged(make_run, tmp_path):
    """(changes) -> the folder of a run whose `run.json` has other entries of the model."""

    def make(**changes):
        folder = tmp_path / "damaged"
        shutil.copytree(make_run("step_by_step"), folder, dirs_exist_ok=True)
        description = json.loads((folder / "run.json").read_text())
        description["model"] |= changes
        (folder / "run.json").write_text(json.dumps(description))
        return folder

    return make


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_heads": 4}, r"parameter \S+ has shape .*/run.json asks for \["),
        ({"num_encoder_layers": 2}, r"no parameter encoder/layers_1/\S+: \S+/run.json asks for"),
        ({"scan_layers": True}, "run.json: model.scan_layers is True, but the layers of .* are not stacked"),
        ({"emb_dim": "16"}, r"run.json: .*--emb-dim \(EMB_DIM\): expected a whole number"),
        ({"emb_dim": 10**30}, "run.json"),
        ({"head_dim": 10**18, "mlp_dim": 10**18}, "run.json"),
    ],
)
def test_a_description_that_is_not_the_checkpoints(capsys, damaged, tmp_path, changes, message):
    run = str(damaged(**changes))
    (tmp_path / "in.jsonl").write_text('{"input": "a"}\n')
    for command in (
        ("eval", run, "--eval-examples", "1"),
        ("infer", run, "--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl")),
        ("serve", run, "--port", "0"),
        ("export", run),
        ("convert", run, str(tmp_path / "new"), "--to", "huggingface"),
        ("train", "entailment", "--init", run, "--vocabulary", "bytes", "--model-dir", str(tmp_path / "run")),
    ):
        assert re.search(message, line := error_of(capsys, *command)), line
        assert "Traceback" not in line
    assert not any((tmp_path / name).exists() for name in ("out.jsonl", "new", "run"))


@pytest.mark.parametrize("given", ["train:400", "sentences"])
def test_another_vocabulary_than_the_checkpoints_is_refused_as_that(capsys, make_run, tmp_path, given):
    """The network of `sentences` has as many ids as that of the run; that of `train:400` has more."""
    if given == "sentences":
        given = str(tmp_path / given)
        train_vocabulary(["a b c"] * 9, 300, extra_ids=20).save(given)
    run = make_run("step_by_step")
    shape = json.loads((pathlib.Path(run) / "run.json").read_text())["model"]
    sizes = [
        f"--{name.replace('_', '-')}={shape[name]}" for name in ("emb_dim", "num_heads", "head_dim", "mlp_dim")
    ]
    sizes += ["--num-encoder-layers=1", "--num-decoder-layers=1", "--vocab-size=none", "--mlp-activations=relu"]
    command = ("train", "entailment", *sizes, "--init", run, "--model-dir", str(tmp_path / "run"))
    line = error_of(capsys, *command, "--vocabulary", given)
    assert f"--init (INITIAL_CHECKPOINT_PATH) {run}: was trained with the vocabulary bytes" in line
    assert f"give --vocabulary {run}, or to start from it leave --vocabulary (VOCABULARY) out" in line


@pytest.mark.parametrize("command", ["train", "prepare", "data show", "data stats"])
def test_own_data_without_rows(capsys, tmp_path, monkeypatch, command):
    monkeypatch.setattr("distill_jax.checkpoints.hub.fetch", lambda *arguments, **options: pytest.fail())
    empty = {"a.csv": "", "b.csv": "question,answer\n", "c.jsonl": "\n", "d.parquet": None}
    for name, text in empty.items():
        path = tmp_path / name
        if text is None:
            pyarrow.parquet.write_table(pyarrow.table({"input": pyarrow.array([], "string")}), path)
        else:
            path.write_text(text)
        assert error_of(capsys, *command.split(), "--data", str(path)) == f"error: {path}: no rows"
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"input": "a", "label": "b"}\n')
    more = ("--data", str(rows), "--validation-data", str(tmp_path / "c.jsonl"))
    assert error_of(capsys, *command.split(), *more) == f"error: {tmp_path / 'c.jsonl'}: no rows"


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
