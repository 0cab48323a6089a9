"""Contestants in processes of their own, measured in turn."""

import os
import pathlib

import pytest

from benchmarks import turns, worker

MODULE = """
import os
from benchmarks.turns import Entrant

def enter(job, name):
    if name == "broken":
        raise ValueError("it has no such part")
    print("a library's own line")
    return Entrant(lambda: job["units"], lambda: {"loss": 1.5}, lambda: {"process": os.getpid()})
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "counting.py").write_text(MODULE)
    root = pathlib.Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(root)]))
    return "counting"


def test_each_has_a_process_and_a_memory_of_its_own(module):
    checked = []
    rates, details = turns.measured(module, {"units": 8}, ["a", "b"], repeats=2, check=checked.append)
    assert {name: len(values) for name, values in rates.items()} == {"a": 2, "b": 2}
    assert checked == [{"a": {"loss": 1.5}, "b": {"loss": 1.5}}]
    assert len({os.getpid(), *(one["process"] for one in details.values())}) == 3
    assert all(0.0 < one["peak_gib"] < 1.0 for one in details.values())


def test_one_that_fails_says_why(module):
    with pytest.raises(RuntimeError, match="broken: ValueError: it has no such part"):
        turns.measured(module, {}, ["broken"], repeats=1)


def test_a_contestant_that_was_killed_is_told_from_one_that_failed():
    assert worker.last_line("a line of a log\nKeyError: 'a'\n", 1) == "KeyError: 'a'"
    assert "SIGKILL" in worker.last_line("a line of a log\n", -9)
