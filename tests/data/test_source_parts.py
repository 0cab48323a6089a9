"""Sources made of sources: held out, concatenated, joined by id."""

import json

import pytest

from distill_jax.data.completions.svamp import parse_svamp
from distill_jax.data.schema import Example
from distill_jax.data.sources import ConcatenatedSource, HeldOutSource, JoinedSource, JsonlSource
from distill_jax.errors import UserError


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def source(tmp_path):
    rows = [{"id": f"n{n}", "input": f"input {n}", "label": str(n)} for n in range(25)]
    return JsonlSource({"train": [write(tmp_path / "train.jsonl", rows)]})


def test_held_out(source):
    held = HeldOutSource(source)
    assert held.splits == ("train", "validation", "test")
    ids = {split: [e.id for e in held.examples(split)] for split in held.splits}
    assert {split: len(part) for split, part in ids.items()} == {"train": 22, "validation": 3, "test": 3}
    assert all(held.size(split) == len(ids[split]) for split in held.splits)
    assert ids["validation"] == ids["test"]
    assert sorted(ids["train"] + ids["test"]) == sorted(e.id for e in source.examples("train"))
    assert held.fingerprint("validation") == held.fingerprint("test") != held.fingerprint("train")
    line = int(ids["validation"][2].removeprefix("n")) + 1
    assert held.where("validation", 2).endswith(f"train.jsonl, line {line}")


def test_an_only_row_cannot_be_held_out(tmp_path):
    one = HeldOutSource(JsonlSource({"train": [write(tmp_path / "one.jsonl", [{"input": "a", "label": "b"}])]}))
    assert one.size("validation") == 1
    with pytest.raises(UserError, match="one.jsonl, line 1: the only row is held out for validation"):
        list(one.examples("train"))


def test_rows_of_one_input_are_held_out_by_themselves(tmp_path, caplog):
    rows = [{"id": n, "input": "x " * 60, "label": "abcd"} for n in range(20)]
    source = JsonlSource({"train": [write(tmp_path / "same.jsonl", rows)]})
    one, other = HeldOutSource(source, whole_inputs=True), HeldOutSource(source)
    for split in ("train", "validation"):
        assert list(one.examples(split)) == list(other.examples(split))
        assert one.size(split) == {"train": 18, "validation": 2}[split]
    assert caplog.text.count("same.jsonl, line 1: all 20 rows have this input: those held out repeat") == 1


def test_concatenated(source, tmp_path):
    more = JsonlSource({"dev": [write(tmp_path / "more.jsonl", [{"input": "x", "label": "y"}] * 3)]})
    both = ConcatenatedSource({"train": [(source, "train"), (more, "dev")]})
    found = list(both.examples("train"))
    assert (len(found), both.size("train")) == (28, 28)
    assert found[24].id == "n24" and found[25].input == "x"
    assert both.where("train", 24).endswith("train.jsonl, line 25")
    assert both.where("train", 26).endswith("more.jsonl, line 2")
    with pytest.raises(IndexError):
        both.where("train", 28)


def test_joined_by_id(source, tmp_path):
    rows = [
        {"id": "n3", "teacher_label": "3", "rationale": "It is three."},
        {"id": "n20", "label_probs": [0.5, 0.5], "label": "not gold"},
        {"id": "elsewhere", "rationale": "of another split"},
    ]
    joined = JoinedSource(source, write(tmp_path / "teacher.jsonl", rows))
    found = list(joined.examples("train"))
    assert found[3] == Example("n3", "input 3", "3", "3", "It is three.")
    assert found[20] == Example("n20", "input 20", "20", label_probs=(0.5, 0.5))
    assert found[4] == Example("n4", "input 4", "4")
    assert joined.where("train", 3) == source.where("train", 3)


def test_joined_raw_completions_change_the_fingerprint(source, tmp_path):
    path = write(tmp_path / "t.jsonl", [{"id": "n1", "completion": "One. The answer is (1).\n\nQ: next"}])
    joined = JoinedSource(source, path, parse_completion=parse_svamp)
    assert list(joined.examples("train"))[1] == Example("n1", "input 1", "1", "(1)", "One.")
    before = joined.fingerprint("train")
    write(path, [{"id": "n1", "completion": "Two. The answer is (2)."}])
    assert joined.fingerprint("train") != before


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([{"rationale": "why"}], "teacher.jsonl, line 1: no id"),
        ([{"id": "n1", "rationale": "a"}, {"id": "n1", "rationale": "b"}], "line 2: the id 'n1' was there"),
        ([{"id": "n1", "label": "1"}], "line 1: no teacher_label, rationale or label_probs"),
        ([{"id": "n1", "rationale": ["a"]}], "line 1: expected text in 'rationale'"),
        ([{"id": "25", "rationale": "a"}], "none of its 1 ids is in train"),
    ],
)
def test_joined_mistakes(source, tmp_path, rows, expected):
    joined = JoinedSource(source, write(tmp_path / "teacher.jsonl", rows))
    with pytest.raises(UserError, match=expected):
        list(joined.examples("train"))
