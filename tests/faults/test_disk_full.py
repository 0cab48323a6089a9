"""A full disk, by a limit on the size of files: one line, nothing half, and the same again goes on.

`python -m distill_jax.experiments.faults --only disk` fills a file system at more moments of each command.
"""

import contextlib
import json
import logging
import os
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest
from small_disk import FULL, disk_of

from distill_jax import files
from distill_jax.checkpoints import whole
from distill_jax.checkpoints.orbax import Checkpointer, step_folders
from distill_jax.cli import common, main
from distill_jax.data.vocabularies import ByteVocabulary
from distill_jax.decoding.output import open_output
from distill_jax.errors import UserError
from distill_jax.training.nonfinite import Guard
from distill_jax.training.train_state import TrainState


def save(folder, step):
    checkpointer = Checkpointer(str(folder), keep=None, keep_best=0)
    try:
        state = TrainState(jnp.int32(step), {"kernel": jnp.asarray(np.arange(3000, dtype=np.float32))}, ())
        checkpointer.save(state, {"place": list(range(100))})
        checkpointer.wait()
    finally:
        with contextlib.suppress(UserError):
            checkpointer.close()


SIZES = [0, 50, 120, 350, 500, 1000, 2000, 5000]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # see the last test
def test_a_checkpoint_is_saved_whole_or_not_at_all(tmp_path):
    failed = 0
    for size in SIZES:  # each in a folder of its own: the writes of a failed save end some time after it
        folder = tmp_path / str(size)
        try:
            with disk_of(size):
                save(folder, 1)
        except UserError as error:
            assert f"{folder / 'checkpoints'}" in str(error) and FULL in str(error), size
            failed += 1
        assert all(not whole.damage(str(folder), step) for step in step_folders(str(folder))), size
    assert failed >= 5
    for size in SIZES:
        save(tmp_path / str(size), 2)
        assert not whole.damage(str(tmp_path / str(size)), 2)


WRITES = {
    "skipped": lambda folder: Guard(str(folder), 1, lambda step: [1], True).observe(1, True),
    "vocabulary": lambda folder: ByteVocabulary().save(folder),
    "line": lambda folder: files.append_line(folder / "lines", "1234"),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("size", [0, 10])
def test_a_file_of_a_run_is_one_line(tmp_path, write, size):
    if size and write is WRITES["line"]:
        (tmp_path / "lines").write_text("123456\n")
    with disk_of(size), pytest.raises(UserError, match=FULL):
        write(tmp_path)
    assert not [
        path for path in tmp_path.iterdir() if path.is_file() and path.read_bytes()[-1:] not in (b"", b"\n")
    ]
    write(tmp_path)


def test_a_line_is_added_whole_after_one_that_was_cut_short(tmp_path):
    path = tmp_path / "lines"
    path.write_text('{"step": 1}\n{"st')
    with disk_of(30), pytest.raises(UserError, match=FULL):
        files.append_line(path, json.dumps({"step": 2000}))
    assert path.read_text() == '{"step": 1}\n{"st'
    files.append_line(path, json.dumps({"step": 2}))
    assert files.json_lines(path, "step") == ([{"step": 1}, {"step": 2}], [2])


def test_a_file_in_a_folder_that_is_made_is_named_as_it_will_be(tmp_path):
    with disk_of(0), pytest.raises(UserError, match=f"^{tmp_path / 'new' / 'a'}: {FULL}"):
        with files.new_folder(tmp_path / "new") as temporary:
            files.write_text(temporary / "a", "content")
    assert not list(tmp_path.iterdir())


def test_rows_of_infer_are_added_all_or_none(tmp_path):
    path = tmp_path / "out.jsonl"
    with pytest.raises(UserError, match=f"{path}: cannot be written"), open_output(str(path), {}) as output:
        output.append([{"a": 1}])
        with disk_of(30):
            output.append([{"a": "x" * 9}, {"a": "x" * 90}])
    assert path.read_text() == '{"a": 1}\n'


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("command", ["data list", "options"])  # told of at the end, and while it is printed
def test_standard_output_without_room_is_one_line(monkeypatch, capsys, command):
    with open("/dev/full", "w") as full:  # closing it fails where something is left to be written
        monkeypatch.setattr(sys, "stdout", full)
        assert main.main(command.split()) == 1
        monkeypatch.undo()
    assert capsys.readouterr().err == "error: the output: no space left on the disk: free some\n"


def test_writes_that_orbax_gave_up_are_not_told(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: told.append(unraisable.exc_value))
    monkeypatch.setattr(logging.getLogger("absl"), "level", 0)
    common.quiet()
    with disk_of(2000), pytest.raises(UserError, match=FULL):
        save(tmp_path, 1)
    other = RuntimeError("another")
    sys.unraisablehook(types.SimpleNamespace(exc_type=RuntimeError, exc_value=other))
    sys.unraisablehook(
        types.SimpleNamespace(exc_type=RuntimeError, exc_value=RuntimeError("Event loop is closed"))
    )
    assert told == [other]
