"""Texts of a user's, in whatever they are shown on."""

import io
import subprocess
import sys

import pytest

from distill_jax.evaluation import tables
from distill_jax.experiments.console import console

FIGURES = {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 3}


@pytest.mark.parametrize("name", ["[/yes]", "[yes]", "[bold]no[/bold]", ":smile:", "[link=http://a]b"])
def test_a_console_shows_a_label_as_it_is(name):
    figures = {"step": 1, "classes": {name: FIGURES}, "confusion": [[3, 0]]}
    shown = io.StringIO()
    for table in tables.evaluation_tables(name, [figures]):
        console(file=shown, width=200).print(table)
    assert shown.getvalue().count(name) == 4  # title, class, row and column of the confusion


def test_what_the_terminal_cannot_show_is_escaped(tmp_path):
    rows = "".join(f"{n},\N{GREEK SMALL LETTER ALPHA}\n" for n in range(40))
    (tmp_path / "rows.csv").write_text(f"input,label\n{rows}")
    command = [sys.executable, "-m", "distill_jax.cli", "data", "show", "--data", str(tmp_path / "rows.csv")]
    environment = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "DISTILL_JAX_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\u03b1" in done.stdout
