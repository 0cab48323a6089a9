"""Files that are no rows and no records: one line each, with the file."""

import gzip
import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from distill_jax import files
from distill_jax.data import records
from distill_jax.data.sources import base, table_of
from distill_jax.data.vocabularies import load_vocabulary, train_vocabulary
from distill_jax.errors import UserError

COUNTS = "examples rows truncated_inputs truncated_targets top_k unknown_tokens labels_of_no_class".split()
COUNTS += ["without_label_probs", "null_rationales", "null_labels"]
MANIFEST = {
    **dict.fromkeys(("task", "split", "vocabulary", "data"), "x"),
    **dict.fromkeys(COUNTS, 1),
    **dict.fromkeys(("soft", "shared"), False),
    **dict.fromkeys(("encoder_fill", "decoder_fill", "data_fraction"), 0.5),
    **dict.fromkeys(("views", "with_target", "without_target", "other_labels", "dropped"), {"label": 1}),
    "task_feature_lengths": {"inputs": 4, "targets": 2},
    "equal_labels": [["a", "b"]],
}


def test_parquet_with_texts_that_are_none(tmp_path):
    offsets, data = pyarrow.py_buffer(np.array([0, 2], np.int32)), pyarrow.py_buffer(b"\xff\xfe")
    text = pyarrow.StringArray.from_buffers(1, offsets, data)
    day = pyarrow.array([1 << 55], pyarrow.timestamp("ms"))
    for name, column in (("text", text), ("day", day)):
        path = tmp_path / f"{name}.parquet"
        pyarrow.parquet.write_table(pyarrow.table({"input": column}), path)
        with pytest.raises(UserError, match=f"{path}: not a whole Parquet file"):
            list(table_of(path)({"all": [path]}).rows("all"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ([], "expected an object, got"),
        ({"rows": "1"}, "rows: expected a whole number"),
        ({"soft": 1}, "soft: expected true or false"),
        ({"views": {"label": None}}, "views.label: expected a whole number"),
        ({"task_feature_lengths": {"inputs": 1}}, "expected inputs and targets"),
        ({"equal_labels": None}, "equal_labels: expected a list"),
    ],
)
def test_manifests(tmp_path, change, message):
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(MANIFEST))
    assert records.read_manifest(tmp_path) == MANIFEST
    path.write_text(json.dumps(MANIFEST | change if isinstance(change, dict) else change))
    with pytest.raises(UserError, match=f"{path}: damaged .*{message}"):
        records.read_manifest(tmp_path)


@pytest.mark.parametrize("array", [np.zeros((2, 2), np.int32), np.zeros(3, np.float32), np.array([None])])
def test_label_tokens_that_are_none(tmp_path, array):
    np.save(tmp_path / "label_tokens.npy", array)
    with pytest.raises(UserError, match="label_tokens.npy: damaged"):
        records.open_rows(tmp_path)


def test_text_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "LONGEST_LINE", 1000)
    monkeypatch.setattr(files, "MOST_TEXT", 2000)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(gzip.compress(b"{}\n" + b" " * 1_000_000))
    with pytest.raises(UserError, match=f"{path}, line 2: longer than 1,000 characters"):
        list(base.read_lines(path))
    with pytest.raises(UserError, match=f"{path}: more than 2,000 characters of text"):
        files.read_text(path)


@pytest.mark.parametrize(("text", "message"), [("[" * 10_000, "nested too deeply"), ("{", "Expecting")])
def test_json_that_is_none(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=f"{tmp_path / 'a.json'}: not JSON: {message}"):
        files.read_json(tmp_path / "a.json")


@pytest.mark.parametrize("extra_ids", [1e9, -1, float("inf"), float("nan"), None, "x"])
def test_vocabularies_with_sentinels_without_end(tmp_path, extra_ids):
    train_vocabulary(["a man sleeps"] * 3, 300, 0).save(tmp_path)
    stored = json.loads((tmp_path / "vocabulary.json").read_text())
    (tmp_path / "vocabulary.json").write_text(json.dumps(stored | {"extra_ids": extra_ids}))
    with pytest.raises(UserError, match=str(tmp_path)):
        load_vocabulary(tmp_path)


def test_a_panic_of_the_tokenizers_library_is_one_line(tmp_path):
    normalizer = {"type": "Precompiled", "precompiled_charsmap": "%"}
    tokenizer = {"version": "1.0", "added_tokens": [], "normalizer": normalizer, "model": {"type": "BPE"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<e>"}')
    with pytest.raises(UserError, match="tokenizer.json: not a tokenizer of the tokenizers library"):
        load_vocabulary(tmp_path)
