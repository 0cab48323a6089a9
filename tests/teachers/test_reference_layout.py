import json

import pytest
from loopback_teacher import Loopback
from teacher_helpers import lines

from distill_jax.cli import main as cli
from distill_jax.data.completions.svamp import parse_svamp
from distill_jax.data.sources import ReferenceSource
from distill_jax.scoring.metrics import equation_accuracy
from distill_jax.tasks.registry import register_distillation_task


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("task", ["svamp", "cqa"])
def test_the_papers_files_come_back_byte_for_byte(datasets, tmp_path, capsys, task, split):
    store, out = str(tmp_path / "store.jsonl"), tmp_path / "llm"
    command = ["store", "import", task, "--split", split, "--store", store]
    assert cli.main(command) == 0
    assert cli.main(command) == 0  # a second time adds nothing
    added, again = capsys.readouterr().out.splitlines()
    count = len(lines(store))
    assert f"{count} completions added, 0 were in it" in added and f"0 completions added, {count} were" in again
    flags = ["--store", store, "--output", str(out), "--layout", "reference"]
    assert cli.main(["store", "export", task, "--split", split, *flags]) == 0
    originals = sorted((datasets / task / "llm").glob(f"{split}_CoT_*.json"))
    assert sorted(path.name for path in out.iterdir()) == [path.name for path in originals]
    for path in originals:
        assert (out / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("task", "split", "accuracy"),
    [("svamp", "train", 0.7350), ("svamp", "test", 0.74), ("cqa", "test", 0.7723)],
)
def test_the_teachers_accuracy_is_the_references(datasets, tmp_path, capsys, task, split, accuracy):
    store, report = str(tmp_path / "store.jsonl"), tmp_path / "report.html"
    assert cli.main(["store", "import", task, "--split", split, "--store", store]) == 0
    flags = ["--store", store, "--output", str(tmp_path / "rows.jsonl"), "--report", str(report)]
    assert cli.main(["store", "export", task, "--split", split, *flags]) == 0
    found = json.loads(report.with_suffix(".json").read_text())["accuracy"]
    assert found["first_sample_as_written"] == pytest.approx(accuracy, abs=5e-5)
    # Here a label that differs from a choice by case or marks alone is that choice.
    assert found["value"] == pytest.approx(accuracy if task == "svamp" else 0.7821, abs=5e-5)
    assert found["low"] < found["value"] < found["high"]
    assert f"{accuracy:.4f}" in capsys.readouterr().out and f"{accuracy:.4f}" in report.read_text()


def read_row(row):
    return row["input"], row["label"]


@pytest.fixture
def task(tmp_path, monkeypatch):
    """A task in the reference layout without any completions: 25 rows of train."""
    monkeypatch.setenv("DISTILL_JAX_DATA_DIR", str(tmp_path))
    folder = tmp_path / "files"
    folder.mkdir()
    rows = [{"input": f"{n} birds\nHow many?", "label": f"( {n} + 1 )"} for n in range(25)]
    (folder / "files_train.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = ReferenceSource("files", read_row, parse_svamp)
    return register_distillation_task("files", source, label_metric_fns=(equation_accuracy,))


def reply(prompt, body):
    number = int(prompt.split()[0])
    return f"There are {number} é and one. The answer is ({number} + 1)."


def test_new_completions_become_the_layout_that_the_task_reads(task, tmp_path, capsys):
    prompt = tmp_path / "own.yaml"
    prompt.write_text('answer: "{rationale} The answer is {label}."\nparser: svamp\n')
    store, out = str(tmp_path / "store.jsonl"), tmp_path / "files" / "llm"
    with Loopback(answers=reply) as server:
        flags = ["--base-url", server.url, "--model", "m", "--store", store, "--prompt", str(prompt)]
        assert cli.main(["annotate", "files", "--limit", "24", *flags]) == 0
        export = ["store", "export", "files", "--store", store, "--output", str(out)]
        export += ["--layout", "reference", "--chunk-size", "10"]
        assert cli.main(export) == 1
        assert "row files_train-24 has 0 completions" in capsys.readouterr().err
        assert cli.main(["annotate", "files", *flags]) == 0
        assert server.count == 25
    assert cli.main(export) == 0
    sizes = [len(json.loads((out / f"train_CoT_{k}.json").read_text())) for k in range(3)]
    assert sizes == [10, 10, 5]
    read = list(task.source.examples("train"))  # the rows held out for validation among them
    assert len(read) == 25 and all(task.agrees(example) for example in read)
    assert read[3].rationale == "There are 3 é and one."


def test_a_task_in_another_layout(tmp_path, capsys):
    store = str(tmp_path / "s.jsonl")
    assert cli.main(["store", "import", "arithmetic", "--store", store]) == 1
    assert "no files in the layout" in capsys.readouterr().err
