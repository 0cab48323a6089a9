"""`distill-jax eval`, from the command line."""

import json
import pathlib

from distill_jax.cli import main as cli


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


def test_mistakes_give_one_line(make_run, capsys):
    assert cli.main(["eval", make_run("rationale"), "--label-by", "rank", "--split", "dev"]) == 1
    assert "has no split 'dev'" in capsys.readouterr().err
    assert cli.main(["eval", make_run("standard"), "--gin.LABEL_BY=guess"]) == 1
    assert "expected generate or rank or constrain, got 'guess'" in capsys.readouterr().err
