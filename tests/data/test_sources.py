import json
import re

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_jax.data.schema import Example
from distill_jax.data.sources import GeneratedSource, JsonlSource, ParquetSource, held_out, read_jsonl
from distill_jax.data.sources.columns import content_id
from distill_jax.errors import UserError


def error_of(function) -> str:
    with pytest.raises(UserError) as raised:
        function()
    message = str(raised.value)
    assert "\n" not in message
    return message


def read(source, split="train"):
    return error_of(lambda: list(source.examples(split)))


def test_reference_layout(files):
    examples = list(files.source.source.examples("train"))
    assert len(examples) == 30
    assert examples[25] == Example(
        "files_train-25", "25 birds, 25 more\nHow many?", "( 25 + 25 )", "(25 + 25)", "25 and 25."
    )


def test_validation_is_held_out_of_train(files):
    train, validation = (
        [example.id for example in files.source.examples(split)] for split in ("train", "validation")
    )
    assert (len(train), len(validation)) == (27, 3)
    assert len({*train, *validation}) == 30
    assert len(list(files.source.examples("test"))) == 30


def test_held_out_rows_of_the_reference_code():
    """As `datasets.Dataset.from_list(…).train_test_split(0.1, seed=0)` chooses them."""
    assert set(np.flatnonzero(held_out(20))) == set(np.random.default_rng(0).permutation(20)[:2])
    assert held_out(9741).sum() == 975


def test_where_names_the_line(files):
    rows = files.rows("train")
    rows.write_text("\n" + rows.read_text())  # blank lines do not count as rows, but as lines
    second = list(files.source.examples("validation"))[1]
    line = int(second.id.rpartition("-")[2]) + 2
    assert files.source.where("validation", 1) == f"{rows}, line {line}"


def test_unparsed_completion_is_kept(files):
    path = files.completions("train", 0)
    texts = json.loads(path.read_text())
    texts[3] = "no answer here"
    path.write_text(json.dumps(texts))
    examples = list(files.source.source.examples("train"))
    assert len(examples) == 30
    assert (examples[3].teacher_label, examples[3].rationale) == (None, None)
    assert examples[3].label == "( 3 + 3 )"


def test_fingerprint_follows_the_files(files):
    before = files.source.fingerprint("train"), files.source.fingerprint("test")
    path = files.completions("train", 1)
    path.write_text(path.read_text().replace("25", "26"))
    assert files.source.fingerprint("train") != before[0]
    assert files.source.fingerprint("test") == before[1]
    assert before[0] != before[1]


def test_no_data_dir(files, monkeypatch):
    monkeypatch.delenv("DISTILL_JAX_DATA_DIR")
    assert "--data-dir" in read(files.source)
    monkeypatch.setenv("DISTILL_JAX_DATA_DIR", "/no/such/folder")
    assert "/no/such/folder" in read(files.source)


def test_missing_rows(files):
    files.rows("train").unlink()
    assert read(files.source) == f"{files.rows('train')}: no such file"


def test_truncated_rows(files):
    path = files.rows("train")
    path.write_bytes(path.read_bytes()[:-20])
    message = read(files.source)
    assert message.startswith(f"{path}, line 30: invalid JSON")
    assert "cut short" in message


def test_rows_cut_at_a_line(files):
    path = files.rows("train")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:24]))
    message = read(files.source)
    assert message.startswith(f"{path}: fewer rows than completions: 24 rows, 6 completions more")
    assert "20 in train_CoT_0.json, 10 in train_CoT_1.json" in message


def test_invalid_json_names_the_line(files):
    path = files.rows("train")
    lines = path.read_text().splitlines()
    lines[6] = lines[6].replace('"label"', "label")
    path.write_text("\n".join(lines) + "\n")
    message = read(files.source)
    assert message.startswith(f"{path}, line 7: invalid JSON")
    assert "cut short" not in message


@pytest.mark.parametrize("field", ["input", "label"])
@pytest.mark.parametrize("value", ["absent", None, "", "  ", 7, "\ud800 birds"])
def test_row_without_input_or_label(files, field, value):
    path = files.rows("train")
    lines = path.read_text().splitlines()
    row = json.loads(lines[11])
    row[field] = value
    if value == "absent":
        del row[field]
    lines[11] = json.dumps(row)
    path.write_text("\n".join(lines))
    message = read(files.source)
    assert message.startswith(f"{path}, line 12: ")
    assert field in message or "surrogate" in message


def test_fewer_completions_than_rows(files):
    path = files.completions("train", 0)
    path.write_text(json.dumps(json.loads(path.read_text())[:-1]))
    message = read(files.source)
    assert message.startswith(f"{files.rows('train')}, line 30: fewer completions than rows")
    assert "19 in train_CoT_0.json, 10 in train_CoT_1.json" in message


@pytest.mark.parametrize("k", [0, 1])
def test_missing_chunk(files, k):
    (files.folder / "llm" / "train_CoT_2.json").write_text("[]")
    files.completions("train", k).unlink()
    assert read(files.source).startswith(f"{files.completions('train', k)}: no such file")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'["one", "tw', "invalid JSON"),
        (b'{"one": 1}', "expected a list"),
        (b'["one", 2]', "entry 2: expected text"),
        (b'["one", "\xff"]', "not UTF-8"),
        (b"", "invalid JSON"),
    ],
)
def test_bad_chunk(files, content, expected):
    files.completions("train", 1).write_bytes(content)
    message = read(files.source)
    assert message.startswith(str(files.completions("train", 1)))
    assert expected in message


def test_folder_instead_of_a_file(files):
    files.rows("test").unlink()
    files.rows("test").mkdir()
    assert "cannot be read" in read(files.source, "test")


def jsonl(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_jsonl(tmp_path):
    path = jsonl(
        tmp_path / "my.jsonl",
        {"question": "2 + 2?", "answer": 4, "why": "Count.", "label_probs": [0.25, 0.75]},
        {"question": "3 + 3?", "answer": "6", "why": None, "id": "b"},
    )
    columns = {"input": "question", "label": "answer", "rationale": "why"}
    source = JsonlSource({"train": [path]}, columns)
    assert list(source.examples("train")) == [
        Example(content_id("2 + 2?", None), "2 + 2?", "4", rationale="Count.", label_probs=(0.25, 0.75)),
        Example("b", "3 + 3?", "6"),
    ]
    assert source.splits == ("train",)
    assert source.where("train", 1) == f"{path}, line 2"


def test_parquet_like_jsonl(tmp_path):
    rows = [{"input": f"{n}?", "label": float(n), "rationale": None} for n in range(2000)]
    rows[7]["label"], rows[7]["rationale"] = float("nan"), "because"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet")
    source = ParquetSource({"test": [tmp_path / "t.parquet"]})
    examples = list(source.examples("test"))
    assert len(examples) == 2000
    assert examples[7] == Example(content_id("7?", None), "7?", rationale="because")
    assert examples[1999] == Example(content_id("1999?", None), "1999?", "1999")
    assert source.where("test", 1500) == f"{tmp_path / 't.parquet'}, row 1501"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"label": "4"}, "expected text in 'input'"),
        ({"input": "2 + 2?"}, "no label and no rationale"),
        ({"input": "2 + 2?", "label": " "}, "no label and no rationale"),
        ({"input": "2 + 2?", "label": ["4"]}, "expected text in 'label'"),
        ({"input": "?", "label": "4", "label_probs": "0.5"}, "list of probabilities"),
        ({"input": "?", "label": "4", "label_probs": [0.5, 2]}, "list of probabilities"),
        (["2 + 2?"], "expected a JSON object"),
    ],
)
def test_bad_jsonl_row(tmp_path, row, expected):
    path = jsonl(tmp_path / "my.jsonl", {"input": "1?", "label": "1"}, row)
    message = read(JsonlSource({"train": [path]}))
    assert message.startswith(f"{path}, line 2: ")
    assert expected in message


def test_bad_parquet(tmp_path):
    path = tmp_path / "t.parquet"
    source = ParquetSource({"train": [path]})
    assert read(source) == f"{path}: no such file"
    path.write_text("input,label\n")
    assert "not a whole Parquet file" in read(source)
    rows = [{"input": f"{n}?", "label": str(n)} for n in range(500)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    path.write_bytes(path.read_bytes()[:-50])
    assert "not a whole Parquet file" in read(source)


def test_unknown_field():
    assert "unknown field 'inputs'" in error_of(lambda: JsonlSource({}, {"inputs": "question"}))


@settings(max_examples=60)
@given(st.binary(max_size=60) | st.text('{}[]":,ab\n\\u', max_size=60).map(str.encode))
def test_any_bytes_as_jsonl(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "any.jsonl"
    path.write_bytes(content)
    try:
        rows = list(read_jsonl(path))
    except UserError as error:
        assert "\n" not in str(error)
        assert re.match(rf"{re.escape(str(path))}(, line \d+)?: ", str(error))
    else:
        assert all(isinstance(row, dict) for _, row in rows)


def choose(rng, name):
    return Example(name, f"input {rng.integers(0, 60)}", "label")


def test_generated_splits_are_disjoint_and_the_same_again():
    source = GeneratedSource(choose, {"train": 30, "test": 10}, seed=3)
    train, test = list(source.examples("train")), list(source.examples("test"))
    assert (len(train), len(test)) == (30, 10)
    assert len({example.input for example in train + test}) == 40
    assert list(source.examples("test")) == test
    other = GeneratedSource(choose, {"train": 30, "test": 10}, seed=4)
    assert list(other.examples("train")) != train
    assert other.fingerprint("train") != source.fingerprint("train")
    assert "cannot generate" in read(GeneratedSource(choose, {"train": 61}))
