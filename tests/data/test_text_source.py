"""Documents from files of lines, columns of rows and fields of a task."""

import gzip
import json

import pytest

from distill_jax.data.sources.text import TextSource
from distill_jax.errors import UserError


def texts(*paths, **options):
    return [example.input for example in TextSource(paths, **options).examples("train")]


def error_of(*paths, **options):
    with pytest.raises(UserError) as raised:
        texts(*paths, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_document_a_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone two\r\n\n   \nüber\u2028drei\nfour".encode())
    assert texts(path) == ["one two", "über\u2028drei", "four"]
    source = TextSource([path])
    assert [example.id for example in source.examples("train")] == [f"{path}, line {n}" for n in (1, 4, 5)]
    assert (source.size("train"), source.where("train", 2)) == (3, f"{path}, line 5")


def test_files_that_gzip_has_compressed(tmp_path):
    lines, rows = tmp_path / "a.txt.gz", tmp_path / "b.jsonl.gz"
    lines.write_bytes(gzip.compress(b"one\ntwo\n" * 2000))
    rows.write_bytes(gzip.compress(json.dumps({"text": "three"}).encode()))
    assert texts(lines, rows) == ["one", "two"] * 2000 + ["three"]
    lines.write_bytes(lines.read_bytes()[:-12])
    assert f"{lines}: cannot be read: " in error_of(lines)


def test_columns_of_rows(tmp_path):
    jsonl, csv = tmp_path / "a.jsonl", tmp_path / "b.csv"
    rows = [{"input": "one", "why": "two"}, {"input": "three", "why": None}, {"input": "four"}]
    jsonl.write_text("".join(json.dumps(row) + "\n" for row in rows))
    csv.write_text("why,input\nfive,six\n,seven\n")
    assert texts(jsonl, csv, columns=("input", "why")) == [*("one two three four six five seven".split())]
    assert "b.csv: no text in the column 'text': there are why, input; choose with --column" in error_of(csv)
    jsonl.write_text('{"text": ["one"]}\n')
    assert "a.jsonl, row 1: expected text in 'text', got ['one']" in error_of(jsonl)


def test_fields_of_a_task(toy):
    of_task = texts(examples=toy.source)
    assert of_task == [example.input for example in toy.source.examples("train")]
    assert len(texts(examples=toy.source, columns=("input", "rationale"))) == 2 * len(of_task)
    assert "--column text: a task's examples have input, label" in error_of(
        examples=toy.source, columns=("text",)
    )


def test_what_cannot_be_read_is_named(tmp_path):
    empty = tmp_path / "a.txt"
    empty.write_text("\n  \n")
    assert error_of(empty) == f"{empty}: no text in there: expected a document a line"
    assert error_of(tmp_path) == f"{tmp_path}: is a folder: give the files in it, such as {tmp_path}/*.txt"
    assert error_of(tmp_path / "b.txt").endswith("b.txt: no such file")
    empty.write_bytes(b"\xff\xfe\xff")
    assert "a.txt: not UTF-16" in error_of(empty)


def test_the_fingerprint_changes_with_the_text_and_with_what_is_read_of_it(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one\n")
    first = TextSource([path]).fingerprint("train")
    assert TextSource([path], ("input",)).fingerprint("train") != first
    path.write_text("two\n")
    assert TextSource([path]).fingerprint("train") != first
