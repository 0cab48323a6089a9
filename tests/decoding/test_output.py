import datetime
import json
import os

import pytest

from distill_jax.decoding.output import open_output
from distill_jax.errors import UserError

SETTINGS = {"model_dir": "/runs/a", "temperature": 0.0, "columns": {"input": "input"}}


def append(path, rows, settings=SETTINGS):
    with open_output(str(path), settings) as output:
        begun = output.done
        output.append(rows)
    return begun


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_are_added_after_those_that_are_there(tmp_path):
    path = tmp_path / "new" / "out.jsonl"
    assert append(path, [{"a": 1}, {"a": "é"}]) == 0
    assert append(path, [{"a": datetime.date(2020, 1, 2)}]) == 2
    assert read(path) == [{"a": 1}, {"a": "é"}, {"a": "2020-01-02"}]
    with open_output(str(path), SETTINGS) as output:
        assert list(output.rows()) == read(path)


@pytest.mark.parametrize("torn", ['{"a": 2', '{"a": 2}', "\x00\x00"])
def test_a_row_that_was_cut_short_is_removed(tmp_path, torn):
    path = tmp_path / "out.jsonl"
    append(path, [{"a": 1}])
    with path.open("a") as file:
        file.write(torn)
    assert append(path, [{"a": 3}]) == 1
    assert read(path) == [{"a": 1}, {"a": 3}]


def test_other_settings_are_refused_and_nothing_is_lost(tmp_path):
    path = tmp_path / "out.jsonl"
    append(path, [{"a": 1}])
    with pytest.raises(UserError, match=r"temperature was 0.0, now 0.7"):
        append(path, [{"a": 2}], SETTINGS | {"temperature": 0.7})
    assert read(path) == [{"a": 1}]


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "precious.txt"
    path.write_text("not ours")
    with pytest.raises(UserError, match="there already"):
        append(path, [{"a": 1}])
    assert path.read_text() == "not ours"


def test_an_output_that_holds_nothing_takes_new_settings(tmp_path):
    path = tmp_path / "out.jsonl"
    append(path, [])
    append(path, [{"a": 1}], SETTINGS | {"temperature": 0.7})
    assert append(path, [], SETTINGS | {"temperature": 0.7}) == 1


def test_a_file_has_one_writer(tmp_path):
    path = tmp_path / "out.jsonl"
    with open_output(str(path), SETTINGS):
        with pytest.raises(UserError, match="another process is writing this file"):
            append(path, [])
    append(path, [])


def test_a_full_disk_gives_one_line(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    with pytest.raises(UserError, match=r"/dev/full: cannot be written \(No space left"):
        append("/dev/full", [{"a": 1}])


def test_half_a_surrogate_pair_in_a_column_is_written_and_read_back(tmp_path):
    rows = [{"input": "a", "note": "cut \ud83d"}, {"input": "ü", "note": "whole"}]
    with open_output(str(tmp_path / "out.jsonl"), {}) as output:
        output.append(rows)
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == rows and "ü" in lines[1]


@pytest.mark.parametrize("line", ["{", "[1]", "\\ud8", "[" * 10_000])
def test_a_broken_line_in_the_middle_is_named(tmp_path, line):
    path = tmp_path / "out.jsonl"
    with open_output(str(path), {}) as output:
        output.append([{"a": 1}])
    path.write_text(f"{path.read_text()}{line}\n" + '{"a": 2}\n')
    with open_output(str(path), {}) as output, pytest.raises(UserError, match=f"{path}, line 2: not a row"):
        list(output.rows())


def test_settings_that_are_none_are_refused(tmp_path):
    (tmp_path / "out.jsonl").write_text("{}\n")
    (tmp_path / "out.jsonl.settings.json").write_text("[]")
    with pytest.raises(UserError, match="without its out.jsonl.settings.json"):
        with open_output(str(tmp_path / "out.jsonl"), {}):
            pass
