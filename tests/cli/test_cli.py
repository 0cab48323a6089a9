import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from distill_jax.cli import main as cli
from distill_jax.config.docs import page
from distill_jax.errors import Status
from distill_jax.evaluation import run as evaluation


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DISTILL_JAX_DATA_DIR", raising=False)


def fails(capsys, *argv):
    """The one line on stderr of a command that must fail with status 1."""
    assert cli.main(list(argv)) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


def test_help_imports_nothing_heavy():
    heavy = ("jax", "numpy", "flax", "gin", "rich", "tensorflow", "seqio", "matplotlib", "openai", "yaml")
    code = (
        "import sys, contextlib\n"
        "from distill_jax.cli import main as cli\n"
        "with contextlib.suppress(SystemExit): cli.main(['--help'])\n"
        f"print(sorted(set({heavy}) & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "COMMAND" in out.stdout
    assert out.stdout.strip().splitlines()[-1] == "[]"


def test_what_is_cheap_to_check_is_checked_before_jax_is_imported(tmp_path):
    (tmp_path / "run.json").touch()
    (tmp_path / "out").mkdir()
    run, none = str(tmp_path), str(tmp_path / "none")
    commands = [[name, none] for name in ("eval", "infer", "serve", "export")]
    commands += [["infer", run, "--input", none], ["export", run, "--output", f"{run}/out"]]
    commands += [["convert", none, "new", "--to", "t5x"], ["convert", run, f"{run}/out", "--to", "t5x"]]
    commands += [[name, "--data", f"{none}.csv"] for name in ("train", "prepare", "data show", "data stats")]
    commands += [["select", "rows.jsonl", "--run", none, "--count", "1"]]
    code = (
        "import sys\n"
        "sys.modules['jax'] = sys.modules['flax'] = sys.modules['numpy'] = None\n"
        "from distill_jax.cli import main as cli\n"
        f"print([int(cli.main(words[0].split() + words[1:])) for words in {commands}])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == str([1] * len(commands))
    lines = out.stderr.splitlines()
    assert len(lines) == len(commands) and all(line.startswith("error: ") for line in lines)
    assert all(
        "no such file" in line or "no such folder" in line or "is there already" in line for line in lines
    )


def test_training_imports_no_tensorflow(tmp_path, capsys):
    code = (
        "import sys\n"
        "from distill_jax.cli import main as cli\n"
        "status = cli.main(sys.argv[1:])\n"
        "assert status == 0, status\n"
        "print(sorted({'tensorflow', 'seqio'} & set(sys.modules)))"
    )
    flags = ["train", "entailment", "--model", "byt5/tiny", "--steps", "1", "--batch-size", "2"]
    flags += ["--lengths", "128,64", "--model-dir", str(tmp_path / "run")]
    flags += ["--gin.NUM_EXAMPLES=8", "--gin.EVAL_EXAMPLES=2", "--gin.NUM_ENCODER_LAYERS=1", "--gin.EMB_DIM=32"]
    out = subprocess.run([sys.executable, "-c", code, *flags], capture_output=True, text=True, env=os.environ)
    assert out.returncode == 0, out.stderr
    assert out.stdout.strip().splitlines()[-1] == "[]"

    run = tmp_path / "run"
    *_, last = lines = out.stderr.splitlines()
    said = [line.split()[0] for line in lines]
    assert said[:9] == "student start method rows batch steps devices memory folder".split()
    assert lines[0].startswith("student  t5, ") and lines[1].startswith("start    random weights; ")
    assert list(json.loads((run / "header.json").read_text())) == said[:9]
    assert said.index("compiling") < said.index("step") and said.count("next:") == 3
    assert last == f"next: distill-jax serve {run} --step best"
    four = ["--batch-size", "4"]
    assert cli.main(["eval", str(run), "--gin.EVAL_EXAMPLES=3", "--split", "test", *four]) == 0
    predictions = [json.loads(line) for line in (run / "eval/test-1.jsonl").read_text().splitlines()]
    assert len(predictions) == 3 and "predicted_rationale" in predictions[0]
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"input": "x"}\n{"inputs": "y"}\n')
    capsys.readouterr()
    assert "line 2" in fails(capsys, "infer", str(run), "--input", str(bad))
    assert all(row["teacher_correct"] for row in predictions)  # of this task the teacher is always right
    assert cli.main(["report", str(run), "--output", str(tmp_path / "report")]) == 0
    cost = (tmp_path / "report/tables/cost.md").read_text().splitlines()[2].split(" | ")
    assert cost[0] == "| step_by_step" and cost[2] == "8 rows" and float(cost[5]) > 0 and cost[6] == "8"
    inputs = tmp_path / "in.jsonl"
    inputs.write_text('{"input": "b", "id": 7}\n\n{"input": "a"}\n')
    outputs = tmp_path / "out.jsonl"
    flags = ["infer", str(run), "--input", str(inputs), "--output", str(outputs), "--rationale", *four]
    assert cli.main(flags) == 0
    assert capsys.readouterr().err.splitlines()[-1] == f"{outputs}: 2 rows"
    assert cli.main(flags) == 0
    assert capsys.readouterr().err.splitlines()[-1] == f"{outputs}: 0 rows after the 2 that were there"
    rows = [json.loads(line) for line in outputs.read_text().splitlines()]
    assert [row["input"] for row in rows] == ["b", "a"] and rows[0]["id"] == 7
    assert all(isinstance(row["predicted_rationale"], str) for row in rows)


def test_the_shipped_tasks_are_listed_and_shown(capsys):
    assert cli.main(["data", "list"]) == 0
    assert "entailment" in capsys.readouterr().out
    assert cli.main(["data", "show", "entailment", "--count", "1"]) == 0
    out = capsys.readouterr().out
    assert "[label] " in out and "[rationale] " in out


def test_statistics_as_json(capsys):
    flags = ["data", "stats", "entailment", "--split", "test", "--vocabulary", "bytes", "--json"]
    assert cli.main([*flags, "--lengths", "512,256"]) == 0
    figures = json.loads(capsys.readouterr().out)["splits"]["test"]
    assert figures["rows"] == 1000 and figures["teacher_accuracy"] == 1.0


def test_an_evaluation_as_json(capsys, monkeypatch, tmp_path):
    """One object on standard output, and nothing else."""
    results = [{"step": 8, "split": "test", "label_accuracy": 0.5, "label_accuracy_interval": [0.1, 0.9]}] * 2
    weights = ["float32", "int8"]
    found = evaluation.RunEvaluation("entailment, test", results, weights, tmp_path / "test-8.jsonl")
    monkeypatch.setattr(evaluation, "evaluate_run", lambda config: found)
    (tmp_path / "run.json").touch()
    assert cli.main(["eval", str(tmp_path), "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert written == {
        "title": "entailment, test",
        "results": results,
        "weights": weights,
        "predictions": str(tmp_path / "test-8.jsonl"),
    }


def test_every_exit_status_is_in_the_table_and_is_what_the_system_expects():
    assert Status.PREEMPTED == 128 + signal.SIGTERM and Status.INTERRUPTED == 128 + signal.SIGINT
    assert Status.CLOSED == 128 + signal.SIGPIPE and len({*Status}) == len(Status.__members__) == 7
    assert all(f"\n| {status.value} | {status.meaning} |\n" in page() for status in Status)


def test_mistakes_give_one_line(capsys, tmp_path):
    assert "unknown task 'snli'" in fails(capsys, "data", "stats", "snli")
    assert "say where with --data-dir" in fails(capsys, "data", "stats", "svamp")
    assert "no such folder" in fails(capsys, "data", "stats", "svamp", "--data-dir", "/nowhere")
    train = ["train", "entailment", "--model-dir", str(tmp_path / "a")]
    assert "--model t5_9/huge: no such model; see distill-jax models" in fails(
        capsys, *train, "--model", "t5_9/huge"
    )
    assert "did you mean TRAIN_STEPS" in fails(capsys, *train, "--gin.TRAIN_STEP=3")
    assert "no value for TASK (MIXTURE_OR_TASK_NAME)" in fails(capsys, "train")
    assert "no such file" in fails(capsys, "eval", str(tmp_path))
    assert "run.json: no such file" in fails(capsys, "infer", str(tmp_path))
    (tmp_path / "run.json").touch()
    assert "--input (INPUT)" in fails(capsys, "infer", str(tmp_path), "--input", str(tmp_path / "no"))


def test_module_entry_points_answer_without_flags():
    root = pathlib.Path(__file__).parent.parent
    for module in ("train", "eval", "infer"):
        out = subprocess.run(
            [sys.executable, "-m", f"distill_jax.{module}"],
            capture_output=True,
            text=True,
            cwd=root,
        )
        assert out.returncode == 1
        missing = "TASK (MIXTURE_OR_TASK_NAME)" if module == "train" else "MODEL_DIR"
        assert out.stderr.strip().splitlines()[-1].startswith(f"error: no value for {missing}")
