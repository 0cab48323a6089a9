"""One owner of what is written: a run's folder, an output, a store."""

import errno
import fcntl
import json
import subprocess
import sys

import pytest

from distill_jax import files
from distill_jax.checkpoints import run_dir
from distill_jax.cli import main
from distill_jax.decoding.output import open_output
from distill_jax.errors import UserError
from distill_jax.training import trainer

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("mine", flush=True)
sys.stdin.read()
"""


def config(folder):
    return trainer.TrainConfig(mixture_or_task_name="entailment", model_dir=str(folder))


def test_a_second_training_is_refused_at_once(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(trainer, "build", lambda *args: pytest.fail("something was built"))
    with run_dir.owned(str(tmp_path)):
        assert main.main(["train", "entailment", "--init", "none", "--model-dir", str(tmp_path)]) == 1
    message = f"error: {tmp_path}: another process trains this run: wait for it, or choose another --model-dir"
    assert capsys.readouterr().err.splitlines()[-1].startswith(message)
    assert [path.name for path in tmp_path.iterdir()] == ["train.lock"]


def test_two_that_begin_a_run_at_once_do_not_both_train(tmp_path, monkeypatch):
    other = run_dir.owned(str(tmp_path / "run"))
    monkeypatch.setattr(trainer, "build", lambda *args: other.__enter__())
    with pytest.raises(UserError, match="another process trains this run"):
        trainer.train(config(tmp_path / "run"))
    other.__exit__(None, None, None)


def test_a_run_that_cannot_be_built_leaves_no_folder(tmp_path, monkeypatch):
    def build(*args):
        raise UserError("no such thing")

    monkeypatch.setattr(trainer, "build", build)
    with pytest.raises(UserError, match="no such thing"):
        trainer.train(config(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_dead_process_owns_nothing(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "train.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "mine\n"
        with pytest.raises(UserError, match="another process trains this run"):
            with run_dir.owned(str(tmp_path)):
                pass
        holder.kill()
        holder.wait()
        with run_dir.owned(str(tmp_path)):
            pass


def failing(number):
    def flock(file, flags):
        raise OSError(number, "no")

    return flock


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_of(tmp_path, monkeypatch, caplog, number):
    monkeypatch.setattr(fcntl, "flock", failing(number))
    with run_dir.owned(str(tmp_path)):
        pass
    assert f"warning: {tmp_path}: no locks (flock) on this file system: let no other process" in caplog.text


def test_a_lock_that_fails_otherwise_is_no_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", failing(errno.EIO))
    with pytest.raises(OSError, match="no"), (tmp_path / "file").open("w") as file:
        files.lock(file, "file", "taken")


def test_a_refused_second_output_does_not_make_the_first_one_its_own(tmp_path):
    path = tmp_path / "out.jsonl"
    with open_output(str(path), {"temperature": 0.0}) as output:
        with pytest.raises(UserError, match="another process is writing this file"):
            with open_output(str(path), {"temperature": 0.7}):
                pass
        output.append([{"a": 1}])
    assert json.loads(path.with_name("out.jsonl.settings.json").read_text()) == {"temperature": 0.0}
    with open_output(str(path), {"temperature": 0.0}) as output:
        assert output.done == 1
