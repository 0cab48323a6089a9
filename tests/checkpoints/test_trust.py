"""A run's folder of somebody else: nothing in it is imported, and nothing outside of it is written."""

import json
import os
import shutil
import sys

import pytest

import distill_jax
from distill_jax import checksums
from distill_jax.checkpoints import trust
from distill_jax.checkpoints.layout import RUN
from distill_jax.cli import main
from distill_jax.decoding.student import load_student
from distill_jax.errors import UserError


@pytest.fixture
def run(make_run, tmp_path):
    """A copy of a run, for a test to spoil."""
    return shutil.copytree(make_run("standard"), tmp_path / "run")


def edit(run, **fields):
    values = json.loads((run / RUN).read_text())
    (run / RUN).write_text(json.dumps(values | fields))


@pytest.fixture
def marked(tmp_path, monkeypatch):
    """A module that leaves a file when it is imported."""
    (tmp_path / "evil.py").write_text("import pathlib\npathlib.Path(__file__).with_name('mark').touch()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "mark"
    sys.modules.pop("evil", None)


OWN_DATA = {
    "data": "seqio:odd",
    "splits": {"train": "train"},
    "rationales": None,
    "columns": {},
    "classes": None,
    "module": "evil",
}


@pytest.mark.parametrize("fields", [{"module": "evil"}, {"own_data": OWN_DATA}])
@pytest.mark.parametrize("command", ["eval", "infer", "serve", "export"])
def test_no_command_imports_what_a_run_names(run, marked, capsys, command, fields):
    edit(run, **fields)
    (run / "inputs.txt").write_text("a text\n")
    arguments = [command, str(run)] + (["--input", str(run / "inputs.txt")] if command == "infer" else [])
    assert main.main(arguments) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(
        f"error: {run / RUN}: names the module 'evil', whose import runs its code: give --trust"
    )
    assert not marked.exists()


def test_trust_imports_it(run, marked):
    edit(run, module="evil")
    with pytest.raises(UserError, match="'evil'"):
        distill_jax.load(str(run))
    load_student(str(run), trusted=True)
    assert marked.exists()
    load_student(str(run))  # it is imported: nothing more runs


def test_links_and_pipes_of_a_run_are_refused(run, tmp_path):
    (run / "inside").symlink_to(run / RUN)
    load_student(str(run))
    (tmp_path / "victim").mkdir()
    for name, make in {
        "eval": lambda path: path.symlink_to(tmp_path / "victim"),
        "metrics.jsonl": lambda path: path.symlink_to(tmp_path / "new"),
        "loop": lambda path: path.symlink_to("../loop"),
        "pipe": os.mkfifo,
    }.items():
        make(run / name)
        with pytest.raises(UserError, match=f"{run / name}: .*: give --trust"):
            load_student(str(run))
        assert main.main(["train", "entailment_standard", "--init", "none", "--model-dir", str(run)]) == 1
        (run / name).unlink()
    assert not list((tmp_path / "victim").iterdir()) and not (tmp_path / "new").exists()


def test_a_run_may_itself_be_behind_a_link(run, tmp_path):
    (tmp_path / "linked").symlink_to(run)
    trust.require_plain(str(tmp_path / "linked"))


@pytest.mark.parametrize("name", ["../secret", "/dev/zero", "a/../../secret", ""])
def test_checksums_name_nothing_outside(tmp_path, name):
    (tmp_path / "secret").touch()
    folder = tmp_path / "step"
    folder.mkdir()
    lines = f"{'0' * 32}  {name}\n"
    (folder / checksums.NAME).write_text(f"# {checksums._sum(lines)} of these lines\n{lines}")
    assert checksums.damaged(folder) == [f"{checksums.NAME} (cut or changed)"]


def test_a_pipe_with_checksums_is_not_waited_for(tmp_path):
    (tmp_path / "a").touch()
    checksums.write(tmp_path)
    (tmp_path / "a").unlink()
    os.mkfifo(tmp_path / "a")
    assert checksums.damaged(tmp_path) == ["a (missing)"]
