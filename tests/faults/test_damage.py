"""Damaged files of a run before each command that reads them: one line, which names the file and the way out.

`python -m distill_jax.experiments.faults --only damage` does so for more kinds, with what is mended by itself.
"""

import shutil

import pytest

from distill_jax.cli import main
from distill_jax.decoding.predictor import Predictor
from distill_jax.experiments.faults import damage
from distill_jax.experiments.faults.bench import STEPS, Bench
from distill_jax.experiments.faults.commands import Outcome

COMMANDS = ("eval", "infer", "serve", "convert")
KINDS = {  # beside those of checkpoints, see test_checkpoints.py; and the words of the way out
    "another vocabulary": "put a copy of the run's vocabulary.json",
    "run.json is []": "put a copy of the file back",
    "run.json of other sizes": "put a copy of that file or of the checkpoint back",
    "run.json of another family": "put a copy of that file or of the checkpoint back",
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory, make_run):
    """A bench whose run is the tests' untrained student."""
    work = tmp_path_factory.mktemp("faults")
    shutil.copytree(make_run("step_by_step"), work / "base" / "run")
    checkpoints = work / "base" / "run" / "checkpoints"
    (checkpoints / "0").rename(checkpoints / str(STEPS))
    (work / "made").touch()
    return Bench(work)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_damaged_file_is_one_line_with_the_way_out(bench, capsys, kind, command):
    place = bench.copy("damaged")
    damage.DAMAGES[kind].inject(place)
    status = main.main(bench.words(command, place))
    outcome = Outcome(status, *capsys.readouterr())
    what, line = damage.verdict(outcome, {}, {}, damage.DAMAGES[kind].names)
    assert what == "stops" and KINDS[kind] in line, (what, outcome.err)
    assert not [path for path in place.iterdir() if path.name not in ("run", "cache", "out.jsonl")]


class Nothing:
    def row(self):
        return {}


def test_an_output_with_a_broken_line_is_not_continued(bench, capsys, monkeypatch):
    monkeypatch.setattr(Predictor, "predict_examples", lambda self, rows, *_: [Nothing()] * len(rows))
    place = bench.copy("damaged")
    words, out = bench.words("infer", place), place / "out.jsonl"
    assert main.main(words) == 0
    damage.DAMAGES["a broken line in the middle of infer's output"].inject(place)
    before = out.read_bytes()
    capsys.readouterr()
    assert main.main(words) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: {out}, line 2: not a row that was written (")
    assert last.endswith("or cut the file before this line")
    assert out.read_bytes() == before


def ended(status, err="", **more):
    return damage.verdict(Outcome(status, "", err), more.get("made", {}), {}, ["run.json"])[0]


def test_what_a_command_may_make_of_damage():
    assert ended(1, "error: run.json: damaged: delete it\n") == "stops"
    assert ended(1, "error: damaged\n").startswith("WRONG: the file is not named")
    assert ended(1, "error: run.json\nerror: run.json\n").startswith("WRONG: ended with")
    assert ended(1, "error: run.json\nmore\n").startswith("WRONG: ended with")
    assert ended(1, "Traceback (most recent call last):\nerror: run.json\n").startswith("WRONG: printed")
    assert ended(1, "E1126 10:00:00 1 array.py:1] full\nerror: run.json\n").startswith("WRONG: printed")
    assert ended(-9).startswith("WRONG: exit status -9")
    assert ended(0) == "does not need it"
    assert ended(0, "warning: run.json is made anew\n") == "recovers"
    assert ended(0, "warning: run.json\n", made={"a": "b"}).startswith("WRONG: another result")
    assert ended(0, "error: run.json\n").startswith("WRONG: exit status 0 after")
