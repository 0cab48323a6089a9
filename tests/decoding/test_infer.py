"""`distill-jax infer`, from the command line."""

import csv
import json
import shutil
import subprocess
import sys

import pytest

from distill_jax.cli import main as cli
from distill_jax.decoding import infer
from distill_jax.decoding.predictor import Predictor
from distill_jax.tasks import own

ROWS = [{"input": f"Premise number {number:02}.", "id": number, "label": "gold"} for number in range(21)]
EIGHT = ["--batch-size", "8"]  # so that all tests share programs


@pytest.fixture
def inputs(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(folder, inputs, output, *flags):
    return cli.main(["infer", folder, "--input", str(inputs), "--output", str(output), *flags])


def fails(capsys, *arguments):
    capsys.readouterr()
    assert run(*arguments) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


def test_rows_are_kept_and_in_order(make_run, inputs, tmp_path):
    output = tmp_path / "out.jsonl"
    assert run(make_run("step_by_step"), inputs, output, "--rationale", *EIGHT) == 0
    rows = read(output)
    assert [{name: row[name] for name in ROWS[0]} for row in rows] == ROWS
    assert all(isinstance(row["predicted_rationale"], str) and row["label_score"] < 0 for row in rows)


@pytest.mark.parametrize("flags", [["--temperature", "1", "--seed", "4", "--n-best", "2"]])
def test_a_killed_run_goes_on_and_ends_the_same(make_run, inputs, tmp_path, monkeypatch, flags):
    folder = make_run("standard")
    assert run(folder, inputs, tmp_path / "whole.jsonl", "--batch-size", "8", *flags) == 0

    class Killed(BaseException):
        pass

    original = Predictor.predict_examples

    def killed(self, examples, request, streams):
        if streams[0] >= 8:
            raise Killed
        return original(self, examples, request, streams)

    monkeypatch.setattr(infer, "WINDOW", 1)
    stopped = tmp_path / "stopped.jsonl"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Predictor, "predict_examples", killed)
        run(folder, inputs, stopped, "--batch-size", "8", *flags)
    assert len(read(stopped)) == 8
    with stopped.open("a") as file:
        file.write('{"input": "Prem')  # cut short by the kill
    asked = []
    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "predict_examples", lambda *a: asked.append(len(a[1])) or original(*a))
        assert run(folder, inputs, stopped, "--batch-size", "4", *flags) == 0
    assert sum(asked) == len(ROWS) - 8
    whole, resumed = read(tmp_path / "whole.jsonl"), read(stopped)
    texts = [
        [row["input"], row["predicted_label"], [c["text"] for c in row["predicted_labels"]]] for row in whole
    ]
    assert texts == [
        [row["input"], row["predicted_label"], [c["text"] for c in row["predicted_labels"]]] for row in resumed
    ]


def test_a_finished_run_is_left_as_it_is_and_more_rows_are_added(make_run, inputs, tmp_path):
    folder, output = make_run("standard"), tmp_path / "out.jsonl"
    assert run(folder, inputs, output, *EIGHT) == 0
    before = output.read_text()
    assert run(folder, inputs, output, *EIGHT) == 0 and output.read_text() == before
    with inputs.open("a") as file:
        file.write('{"input": "Premise number 21."}\n')
    assert run(folder, inputs, output, *EIGHT) == 0
    assert output.read_text().startswith(before) and len(read(output)) == len(ROWS) + 1


def test_another_input_or_other_settings_are_refused(make_run, inputs, tmp_path, capsys):
    folder, output = make_run("standard"), tmp_path / "out.jsonl"
    assert run(folder, inputs, output, *EIGHT) == 0
    before = output.read_text()
    assert "num_beams was 1, now 2" in fails(capsys, folder, inputs, output, "--beams", "2")
    assert "model_dir was" in fails(capsys, make_run("soft_labels"), inputs, output)
    lines = inputs.read_text().splitlines()
    inputs.write_text("\n".join([lines[0], '{"input": "another"}', *lines[2:]]) + "\n")
    assert f"{output}, line 2: it is not of {inputs}, line 2" in fails(capsys, folder, inputs, output)
    inputs.write_text(lines[0] + "\n")
    assert "line 2: the input ends before it" in fails(capsys, folder, inputs, output)
    assert output.read_text() == before


def test_csv_with_mapped_columns_is_ranked(make_run, tmp_path):
    table = tmp_path / "in.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["question", "options"], ["a\nb, c", '["p", "q"]'], ["d", '["r", "s", "t"]']])
    flags = ["--input-column", "question", "--choices-column", "options", "--label-by", "rank"]
    assert run(make_run("step_by_step"), table, tmp_path / "out.jsonl", *flags, "--normalize-scores") == 0
    rows = read(tmp_path / "out.jsonl")
    assert rows[0]["question"] == "a\nb, c" and list(rows[1]["predicted_label_probs"]) == ["r", "s", "t"]
    best = max(rows[1]["predicted_label_probs"], key=rows[1]["predicted_label_probs"].get)
    assert rows[1]["predicted_label"] == best == rows[1]["predicted_labels"][0]["text"]


def test_the_columns_of_the_runs_own_data_are_the_default(make_run, tmp_path, capsys):
    folder = shutil.copytree(make_run("step_by_step"), tmp_path / "run")
    (tmp_path / "rows.jsonl").write_text('{"question": "a b", "answer": "c"}\n')
    values = json.loads((folder / "run.json").read_text())
    columns = {"input": "question", "label": "answer"}
    values["own_data"] = own.describe(str(tmp_path / "rows.jsonl"), columns=columns, classes=["c", "d"])
    (folder / "run.json").write_text(json.dumps(values | {"mixture_or_task_name": "step_by_step"}))
    table, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    table.write_text('{"question": "a b"}\n')
    assert run(str(folder), table, output, *EIGHT) == 0 and read(output)[0]["question"] == "a b"
    table.write_text('{"input": "a b"}\n')
    assert "expected text in 'question', there are input" in fails(capsys, str(folder), table, tmp_path / "o")
    flags = ["--input-column", "input", *EIGHT]
    assert run(str(folder), table, tmp_path / "other.jsonl", *flags) == 0


def test_lines_of_plain_text(make_run, tmp_path, capsys, caplog):
    text, output, folder = tmp_path / "in.txt", tmp_path / "out.jsonl", make_run("standard")
    text.write_text("Premise one.\r\n\n \n{1, 2}\n", encoding="utf-16")
    assert run(folder, text, output, *EIGHT) == 0
    rows = read(output)
    assert [row["input"] for row in rows] == ["Premise one.", "{1, 2}"] and "predicted_label" in rows[0]
    assert caplog.messages == [f"warning: {text}: 2 blank lines left out"]
    other = text.rename(tmp_path / "in.any")
    assert run(folder, other, tmp_path / "other.jsonl", "--input-format", "text", *EIGHT) == 0
    assert read(tmp_path / "other.jsonl") == rows

    plain = ["--input-format", "text"]
    assert "--input-format text" in fails(capsys, folder, other, tmp_path / "o")
    line = fails(capsys, folder, other, tmp_path / "o", *plain, "--choices-column", "options")
    assert "--choices-column options: plain text has no columns" in line
    other.write_bytes(b"one\nPK\0\0\n")
    assert f"{other}, line 2: a NUL character" in fails(capsys, folder, other, tmp_path / "o", *plain)
    other.write_bytes(b"one\n\xff\xfetwo\n")
    assert f"{other}: not UTF-8 text" in fails(capsys, folder, other, tmp_path / "o", *plain)


def test_standard_input_to_standard_output(make_run):
    flags = ["infer", make_run("single_task"), "--beams", "2", "--n-best", "2", "--rationale"]
    out = subprocess.run(
        [sys.executable, "-m", "distill_jax.cli", *flags],
        input='{"input": "x"}\n\n{"input": "y"}\n',
        capture_output=True,
        text=True,
    )
    assert out.returncode == 0, out.stderr
    rows = [json.loads(line) for line in out.stdout.splitlines()]
    assert [row["input"] for row in rows] == ["x", "y"]
    assert all(len(row["predicted_rationales"]) == 2 for row in rows)
    scores = [choice["score"] for choice in rows[0]["predicted_rationales"]]
    assert scores == sorted(scores, reverse=True)


def test_bad_rows_are_named_and_what_was_done_stays(make_run, inputs, tmp_path, capsys, monkeypatch):
    folder, output = make_run("standard"), tmp_path / "out.jsonl"
    bad = tmp_path / "bad.csv"
    bad.write_text("input,id\nx,1\n,2\n")
    assert f"{bad}, row 2: expected text in 'input'" in fails(capsys, folder, bad, output)
    assert not output.exists()
    monkeypatch.setattr(infer, "WINDOW", 1)
    good = inputs.read_text()
    with inputs.open("a") as file:
        file.write("{broken\n")
    assert f"{inputs}, line 22: invalid JSON" in fails(capsys, folder, inputs, output, "--batch-size", "8")
    assert len(read(output)) == 16
    inputs.write_text(good)
    assert run(folder, inputs, output, "--batch-size", "8") == 0
    assert len(read(output)) == 21


def test_settings_are_checked_before_anything_is_loaded(make_run, inputs, tmp_path, capsys):
    output = tmp_path / "out.jsonl"
    assert "as many beams" in fails(capsys, "nowhere", inputs, output, "--n-best", "2")
    assert "expected jsonl or csv or parquet or text or None, got 'xml'" in fails(
        capsys, "nowhere", inputs, output, "--gin.INPUT_FORMAT=xml"
    )
    assert "predicts no rationale" in fails(capsys, make_run("standard"), inputs, output, "--rationale")
    assert not output.exists()
