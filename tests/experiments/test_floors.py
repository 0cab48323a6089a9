"""The rules on a task, by hand, and the command that measures them."""

import json

import pytest

from distill_jax.data.sources import JsonlSource
from distill_jax.data.vocabularies import END
from distill_jax.errors import UserError
from distill_jax.experiments import floors
from distill_jax.tasks.definition import define_task


def write(path, *rows):
    columns = ("id", "input", "label", "teacher_label")
    lines = [{k: v for k, v in zip(columns, (str(n), *row), strict=True) if v} for n, row in enumerate(rows)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def task(tmp_path, *test):
    train = [(f"man {n}{END}sleeps", "no", None) for n in range(30)]
    train += [(f"dog {n}{END}runs", "yes", None) for n in range(10)]
    files = {"train": [write(tmp_path / "train.jsonl", *train)]}
    files["test"] = [write(tmp_path / "test.jsonl", *test)]
    return define_task("some", JsonlSource(files), classes=("yes", "no"))


def test_rules_and_teacher_by_hand(tmp_path):
    rows = [(f"cat{END}runs", "yes", "yes"), (f"cat{END}sleeps", "no", "yes"), (f"cat{END}sings", None, "yes")]
    (found,) = floors.measure(task(tmp_path, *rows), "test", [1.0])
    values = {name: each["value"] for name, each in found["accuracies"].items()}
    assert values == {"majority": 0.5, "wording": 0.5, "lookup": 1.0, "words": 1.0, "teacher": 0.5}
    assert (found["train_examples"], found["rows"]) == (40, 2)  # the row without a label is left out
    low, high = found["accuracies"]["majority"]["interval"]
    assert 0.0 < low < 0.5 < high < 1.0
    columns, (row,) = floors.table({"floors": [found]})
    assert columns[:3] == ["of train", "rows", "majority"] and row[:3] == ["100.0%", "40", "50.0%"]


def test_a_split_without_labels_is_one_line(tmp_path):
    rows = [("a", None, "yes")]
    with pytest.raises(UserError, match="task some: no row of test has a reference label"):
        floors.measure(task(tmp_path, *rows), "test", [1.0])


def test_the_command_writes_the_lookup_of_the_generated_pairs_at_the_floor(tmp_path, capsys):
    file = tmp_path / "out" / "floors.json"
    floors.main(["entailment", "--shares", "0.1", "--results", str(file)])
    accuracies = json.loads(file.read_text())["floors"][0]["accuracies"]
    assert accuracies["lookup"]["value"] == accuracies["wording"]["value"] == pytest.approx(0.6, abs=0.02)
    assert accuracies["teacher"]["value"] == 1.0 and accuracies["majority"]["value"] == 0.4
    assert "accuracy on 1,000 rows of test" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="error: unknown task"):
        floors.main(["entailmnt"])
