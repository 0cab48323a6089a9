"""Misspelled and misplaced flags and macros are refused by name, in every command."""

import json

import pytest

from distill_jax.cli import main as cli
from distill_jax.config import COMMANDS
from distill_jax.config.flags import flags_of


def fails(capsys, *argv):
    """The one line of a command that must fail."""
    try:
        status = cli.main(list(argv))
    except SystemExit as stop:
        status = stop.code
    assert status in (1, 2)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("command", COMMANDS)
def test_misspelled_flags_and_macros(capsys, command):
    cls, words = COMMANDS[command], command.split()
    name = next(flag for field in reversed(cls.options().values()) for flag in flags_of(field))
    assert f"{name}s" in (line := fails(capsys, *words, f"{name}s", "1")) and "has no flag" in line
    assert "no flag --no-such-flag" in fails(capsys, *words, "--no-such-flag=1")
    macro = list(cls.by_macro())[-1]
    line = fails(capsys, *words, f"--gin.{macro}X=1")
    assert f"--gin.{macro}X: no option is called {macro}X; did you mean {macro}?" in line
    entries = [field.metadata["option"] for field in cls.options().values()]
    if not any(entry.positional and entry.repeat for entry in entries):  # that takes any number of words
        assert "one argument too many" in fails(capsys, *words, "a", "b", "c", "d")
    valued = next(
        (flags_of(field)[0] for field in cls.options().values() if flags_of(field) and field.type is not bool),
        "--config",
    )
    assert f"{valued} needs a value" in fails(capsys, *words, valued)


def test_a_long_list_of_names_is_not_printed(capsys):
    line = fails(capsys, "train", "svamp", "--qqqqq", "1")
    assert line == "error: distill-jax train has no flag --qqqqq; see distill-jax train --help"
    assert fails(capsys, "train", "svamp", "--gin.QQQQQ=1").endswith("called QQQQQ; see distill-jax options")
    assert "there are: " in fails(capsys, "models", "--qqqqq", "1")


def test_gin_flags_in_both_forms(capsys):
    assert "no such file" in fails(capsys, "train", "--gin_file", "none.gin")
    assert "no such file" in fails(capsys, "train", "--gin_file=none.gin")
    files = ["--gin_file", "models/t5_1_1/tiny.gin", "--gin_file", "recipes/standard.gin"]
    assert "no value for TASK (MIXTURE_OR_TASK_NAME)" in fails(capsys, "train", *files, "--gin.MODEL_DIR=run")
    assert "no option is called VOCAB_SIZE" in fails(
        capsys, "prepare", "svamp", "--gin_file=models/t5_1_1/tiny.gin"
    )


def test_prepare_takes_macros(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "train.csv"
    data.write_text("input,label\n" + "".join(f"{n} and {n},{2 * n}\n" for n in range(20)))
    assert cli.main(["prepare", "--data", str(data), "--method", "standard", "--gin.VOCABULARY=bytes"]) == 0
    (manifest,) = (tmp_path / "cache/prepared").glob("*/manifest.json")
    assert json.loads(manifest.read_text())["vocabulary"] == "bytes"


@pytest.mark.parametrize("name", ["7", "1e3", "None", "True"])
def test_a_folder_keeps_its_name(capsys, name):
    assert f"{name}/run.json: no such file" in fails(capsys, "eval", name)
