import json

import pytest

from distill_jax.errors import UserError
from distill_jax.tasks import own

COLUMNS = {"input": "question", "label": "answer", "rationale": "why"}


def write(path, count=20):
    rows = [{"question": f"{n}?", "answer": f"{n}", "why": f"It is {n}."} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def make(*arguments, **options):
    description = own.describe(*arguments, **options)
    assert json.loads(json.dumps(description)) == description  # a run's folder remembers it
    return own.own_task(description)


def test_one_file(tmp_path):
    task = make(write(tmp_path / "My Data-1.jsonl"), columns=COLUMNS)
    assert task.name == "my_data_1"
    assert {split: task.source.size(split) for split in task.source.splits} == {
        "train": 18,
        "validation": 2,
        "test": 2,
    }
    example = next(task.source.examples("train"))
    assert example.label and example.rationale == f"It is {example.label}."


def test_three_files_and_classes(tmp_path):
    files = [write(tmp_path / f"{name}.jsonl", n) for name, n in (("a", 20), ("b", 4), ("c", 5))]
    task = make(*files, columns=COLUMNS, classes=["yes", "no"])
    assert [task.source.size(split) for split in ("train", "validation", "test")] == [20, 4, 5]
    assert task.classes == ("yes", "no")


def test_validation_serves_as_test(tmp_path):
    task = make(write(tmp_path / "a.jsonl"), write(tmp_path / "b.jsonl", 4), columns=COLUMNS)
    assert [e.id for e in task.source.examples("test")] == [e.id for e in task.source.examples("validation")]


def test_rationales_from_another_file(tmp_path):
    columns = {"input": "question", "label": "answer"}
    path = write(tmp_path / "a.jsonl")
    name = next(make(path, path, columns=columns).source.examples("train")).id
    (tmp_path / "why.csv").write_text(f"id,rationale\n{name},Because.\n")
    task = make(path, path, rationales=str(tmp_path / "why.csv"), columns=columns)
    first, second, *_ = task.source.examples("train")
    assert (first.rationale, second.rationale) == ("Because.", None)


def test_mistakes(tmp_path):
    with pytest.raises(UserError, match="data.txt: expected a file that ends in .csv, .json, .jsonl, .parquet"):
        own.describe(str(tmp_path / "data.txt"))
    with pytest.raises(UserError, match="files of one kind"):
        own.describe(write(tmp_path / "a.jsonl"), str(tmp_path / "b.csv"))
    with pytest.raises(UserError, match="unknown field 'text'"):
        make(write(tmp_path / "a.jsonl"), columns={"text": "question"})
    with pytest.raises(UserError, match="no such file"):
        list(make(str(tmp_path / "none.jsonl")).source.examples("train"))
