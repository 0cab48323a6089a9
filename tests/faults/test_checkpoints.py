"""Damaged checkpoints: each is noticed, and told of with the file and the steps that are whole."""

import dataclasses
import json
import random
import shutil

import flax.struct
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_student import TINY

from distill_jax import checksums
from distill_jax.checkpoints import run_dir, whole
from distill_jax.checkpoints.orbax import Checkpointer, step_folders
from distill_jax.cli import main
from distill_jax.data.vocabularies import ByteVocabulary
from distill_jax.errors import UserError
from distill_jax.models.families import describe

FLIPS = 60  # the experiment with faults makes more


@flax.struct.dataclass
class State:
    step: jnp.ndarray
    params: dict


def state(step):
    return State(jnp.int32(step), {"layer": {"kernel": jnp.arange(300.0) * step}})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a run with checkpoints of steps 1 to 3."""
    folder = tmp_path_factory.mktemp("saved") / "run"
    checkpointer = Checkpointer(str(folder), keep=None, keep_best=0)
    for step in (1, 2, 3):
        checkpointer.save(state(step), {"place": step})
    checkpointer.close()
    return folder


@pytest.fixture
def run(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run")


def flip(path, place, bit):
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_every_file_of_a_step_has_a_checksum_when_it_is_final(saved):
    folder = saved / "checkpoints" / "3"
    assert checksums.count(folder) == len(files_of(folder)) - 1 > 10
    assert not checksums.damaged(folder)


def test_every_flipped_bit_is_noticed(run):
    folder = run / "checkpoints" / "3"
    paths, random_ = files_of(folder), random.Random(0)
    for n in range(FLIPS):
        path = paths[n % len(paths)]  # each file, the checksums too, several times
        content = path.read_bytes()
        flip(path, random_.randrange(len(content)), random_.randrange(8))
        assert len(whole.damage(str(run), 3)) == 1, (path, n)
        path.write_bytes(content)
    assert not whole.damage(str(run), 3)


def largest(folder):
    """The file with the most bytes of a state."""
    return max(files_of(folder / "state"), key=lambda path: path.stat().st_size)


DAMAGE = {
    "changed": lambda folder: flip(largest(folder), largest(folder).stat().st_size // 2, 0),
    "changed at its end": lambda folder: largest(folder).write_bytes(largest(folder).read_bytes()[:-1]),
    "empty": lambda folder: largest(folder).write_bytes(b""),
    "missing": lambda folder: largest(folder).unlink(),
    "missing state": lambda folder: shutil.rmtree(folder / "state"),
    "missing place": lambda folder: shutil.rmtree(folder / "loader"),
    "cut checksums": lambda folder: (folder / checksums.NAME).write_text("# 0"),
    "empty folder": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
}


def resume(folder):
    """What a run resumes from; saves step 3 after it."""
    whole.set_aside_damaged(str(folder))
    checkpointer = Checkpointer(str(folder), keep=None, keep_best=0)
    try:
        return checkpointer.restore(state(0))
    finally:
        checkpointer.save(state(3), {"place": 3})
        checkpointer.close()


@pytest.mark.parametrize("kind", DAMAGE)
def test_training_goes_back_to_the_latest_whole_step_and_saves_again(run, caplog, kind):
    for step in (2, 3):
        DAMAGE[kind](run / "checkpoints" / str(step))
    restored, place = resume(run)
    assert place == {"place": 1}
    np.testing.assert_array_equal(restored.params["layer"]["kernel"], state(1).params["layer"]["kernel"])
    for step in (2, 3):
        assert f"warning: checkpoint {step} is damaged, " in caplog.text
        assert (run / "damaged" / str(step)).is_dir()
    assert "the run goes back to that of step 1" in caplog.text
    assert step_folders(str(run)) == [1, 3] and not whole.damage(str(run), 3)


def test_where_no_step_is_whole_training_stops_and_nothing_is_moved(run):
    for step in (1, 2, 3):
        DAMAGE["missing"](run / "checkpoints" / str(step))
    with pytest.raises(UserError, match=r"every checkpoint is damaged: 3/state/.* \(missing\), 2/state/.*anew"):
        resume(run)
    assert step_folders(str(run)) == [1, 2, 3] and not (run / "damaged").exists()


def test_without_verify_only_a_missing_state_counts(run):
    for step, kind in ((2, "changed"), (3, "missing state")):
        DAMAGE[kind](run / "checkpoints" / str(step))
    whole.set_aside_damaged(str(run), verify=False)
    assert step_folders(str(run)) == [1, 2]


def test_a_step_of_before_there_were_checksums_is_taken_with_a_warning(run, caplog):
    for step in (1, 2, 3):
        (run / "checkpoints" / str(step) / checksums.NAME).unlink()
    assert int(resume(run)[0].step) == 3
    whole.require_whole(str(run), 2)
    assert [record.message.split(": ")[2] for record in caplog.records] == ["has no checksums"] * 2


@pytest.fixture
def student(run):
    """The folder of a student, of whose checkpoints the last is damaged."""
    shape = describe(dataclasses.replace(TINY, vocab_size=384))
    lengths = {"inputs": 16, "targets": 8}
    description = run_dir.Run("entailment_standard", "reference", None, lengths, "bytes", "", shape, 4, 0, {})
    run.joinpath("run.json").write_text(json.dumps(dataclasses.asdict(description)))
    ByteVocabulary().save(run)
    DAMAGE["changed"](run / "checkpoints" / "3")
    return run


@pytest.mark.parametrize(
    "command",
    [
        ["eval", "RUN"],
        ["eval", "RUN", "--step", "all", "--eval-output-dir", "OUT"],
        ["infer", "RUN", "--input", "INPUT", "--output", "OUT"],
        ["serve", "RUN", "--port", "0"],
        ["convert", "RUN", "OUT", "--to", "t5x"],
        ["export", "RUN", "--output", "OUT"],
        ["train", "entailment", "--init", "RUN", "--model-dir", "OUT"],
    ],
    ids=lambda words: " ".join(words[:1]),
)
def test_other_commands_stop_with_the_file_and_the_steps_that_are_whole(
    student, tmp_path, capsys, command, monkeypatch
):
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path / "cache"))
    (tmp_path / "input").write_text(json.dumps({"input": "a man sleeps </s> nobody sleeps"}) + "\n")
    if "all" in command:
        for step in ("1", "2"):  # the damaged one is not passed over
            shutil.rmtree(student / "checkpoints" / step)
    places = {"RUN": str(student), "OUT": str(tmp_path / "out"), "INPUT": str(tmp_path / "input")}
    assert main.main([places.get(word, word) for word in command]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    good = "no other step is whole" if "all" in command else "the steps [1, 2] are whole: take one of them"
    file = str(largest(student / "checkpoints" / "3"))
    assert last.startswith("error: ") and f"{file} (changed): the checkpoint is damaged; " in last
    assert good in last
    assert not (tmp_path / "out").exists()


def test_no_verify_reads_what_is_there(student, capsys):
    DAMAGE["cut checksums"](student / "checkpoints" / "2")
    errors = []
    for more in ([], ["--no-verify"]):
        assert main.main(["eval", str(student), "--step", "2", *more]) == 1
        errors.append(capsys.readouterr().err)
    assert "2/checksums.txt (cut or changed): the checkpoint is damaged" in errors[0]
    assert "parameter" in errors[1] and "run.json asks for" in errors[1]  # these were never a student's


def test_check_tells_of_every_fault(student, capsys):
    assert main.main(["check", str(student)]) == 1
    (student / "metrics.jsonl").write_text('{"step": 1}\n{"st')
    (student / "scores.json").write_text("{")
    shutil.rmtree(student / "checkpoints" / "3")
    capsys.readouterr()
    assert main.main(["check", str(student)]) == 1
    table = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for words in ("run.json whole", "metrics.jsonl DAMAGED the lines [2] are cut", "scores.json DAMAGED"):
        assert words in table
    (student / "metrics.jsonl").unlink()
    (student / "scores.json").unlink()
    assert main.main(["check", str(student)]) == 0
