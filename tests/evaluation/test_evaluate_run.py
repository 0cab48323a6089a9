"""`distill-jax eval`, from the command line."""

import json
import pathlib
import shutil

import pytest

from distill_jax.cli import main as cli
from distill_jax.experiments.report import inputs
from distill_jax.tasks import own


def test_metrics_predictions_and_tables(make_run, tmp_path, capsys):
    folder = make_run("step_by_step")
    flags = ["eval", folder, "--gin.EVAL_EXAMPLES=6", f"--gin.EVAL_OUTPUT_DIR={tmp_path}", "--batch-size", "8"]
    assert cli.main(flags) == 0
    assert cli.main([*flags, "--label-by", "rank"]) == 0
    printed = capsys.readouterr().out
    for text in ("labels generated", "labels ranked", "label_accuracy_interval", "precision", "other"):
        assert text in printed
    generated, ranked = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert (generated["label_by"], ranked["label_by"]) == ("generate", "rank")
    for figures in (generated, ranked):
        assert figures["step"] == 0 and figures["examples"] == 6
        low, high = figures["label_accuracy_interval"]
        assert low <= figures["label_accuracy"] <= high
        assert set(figures["classes"]) == {"entailment", "neutral", "contradiction"}
        assert 0.0 <= figures["label_calibration_error"] <= 1.0
    rows = [json.loads(line) for line in (tmp_path / "test-0-rank.jsonl").read_text().splitlines()]
    assert all(row["predicted_label"] in row["predicted_label_probs"] for row in rows)
    assert sum(row["correct"] for row in rows) / 6 == ranked["label_accuracy"]
    both = [str(pathlib.Path(tmp_path, name)) for name in ("test-0.jsonl", "test-0-rank.jsonl")]
    assert cli.main(["compare", *both]) == 0
    assert "difference B - A" in capsys.readouterr().out


def test_what_fewer_bits_cost(make_run, tmp_path, capsys):
    flags = ["eval", make_run("step_by_step"), f"--gin.EVAL_OUTPUT_DIR={tmp_path}", "--batch-size", "4"]
    flags += ["--gin.EVAL_EXAMPLES=4", "--label-by", "constrain", "--weights", "int8", "--compare-weights"]
    assert cli.main(flags) == 0
    printed = capsys.readouterr().out
    assert "cost of int8 weights, step 0: label_accuracy" in printed and "labels constrained" in printed
    exact, small = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert "weights" not in exact and small["weights"] == "int8"
    for name in ("test-0-constrain.jsonl", "test-0-constrain-int8.jsonl"):
        rows = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        assert {row["predicted_label"] for row in rows} <= {"entailment", "neutral", "contradiction"}


@pytest.mark.parametrize("with_test", [False, True])
def test_validation_rows_that_stand_in_for_a_test_split_are_told_as_that(make_run, tmp_path, capsys, with_test):
    rows, run = tmp_path / "mine.csv", tmp_path / "run"
    rows.write_text("input,label\n" + "".join(f"is {n} even,{('yes', 'no')[n % 2]}\n" for n in range(20)))
    (tmp_path / "test.csv").write_text("input,label\nis 21 even,no\nis 22 even,yes\n")
    shutil.copytree(make_run("standard"), run)
    description = json.loads((run / "run.json").read_text())
    description |= {"mixture_or_task_name": "mine_standard", "label_source": "reference"}
    description["own_data"] = own.describe(str(rows), test=str(tmp_path / "test.csv") if with_test else None)
    (run / "run.json").write_text(json.dumps(description))
    assert cli.main(["eval", str(run), "--batch-size", "4"]) == 0
    told = (
        "mine_standard, test, labels"
        if with_test
        else "mine_standard, validation (there is no test split), labels"
    )
    assert told in " ".join(capsys.readouterr().out.split())
    figures = json.loads((run / "eval/metrics.jsonl").read_text())
    assert figures["examples"] == 2 and figures["split"] == ("test" if with_test else "validation")
    assert figures.get("stands_in_for") == (None if with_test else "test")
    (found,), notes = vars(inputs.read([str(run)], "test", None)).values()
    assert (found.split, found.test_rows) == (figures["split"], 2)
    assert notes == ([] if with_test else [f"{run}: shown is validation: there is no test split"])


def test_mistakes_give_one_line(make_run, capsys):
    assert cli.main(["eval", make_run("rationale"), "--label-by", "rank", "--split", "dev"]) == 1
    assert "has no split 'dev'" in capsys.readouterr().err
    assert cli.main(["eval", make_run("standard"), "--gin.LABEL_BY=guess"]) == 1
    assert "expected generate or rank or constrain, got 'guess'" in capsys.readouterr().err
