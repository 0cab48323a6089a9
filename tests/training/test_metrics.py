import json
import subprocess
import sys

import pytest
from small_disk import FULL, disk_of

from distill_jax.errors import UserError
from distill_jax.training.metrics import MetricWriter


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_lines_of_lost_steps_are_dropped_on_restart(tmp_path):
    writer = MetricWriter(str(tmp_path))
    for step in (1, 2, 3):
        writer.write(step, {"loss": step})
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "train/lo')  # killed in the middle of a line
    writer = MetricWriter(str(tmp_path), start_step=2)
    writer.write(3, {"loss": 30})
    writer.close()
    assert [(line["step"], line["train/loss"]) for line in lines(tmp_path)] == [
        (1, 1.0),
        (2, 2.0),
        (3, 30.0),
    ]
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_run_does_not_wait_for_tensorboard_before_its_first_metrics(tmp_path):
    code = """import sys
from distill_jax.training.metrics import MetricWriter
writer = MetricWriter(sys.argv[1], start_step=4)
assert "tensorboardX" not in sys.modules
writer.write(5, {"loss": 1.0})
assert "tensorboardX" in sys.modules
writer.close()
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"train/loss" in events.read_bytes()
    MetricWriter(str(tmp_path)).close()  # without metrics there is nothing to open


def test_a_place_that_tensorboard_cannot_have_is_told_of_before_anything_is_trained(tmp_path):
    (tmp_path / "tensorboard").write_text("")
    with pytest.raises(UserError, match="tensorboard: cannot be written"):
        MetricWriter(str(tmp_path))


GARBAGE = (b'{"step": 3, "tra', b"\x00\xff", b"[1]\n{}", b'{"step": 3, "a": }', b'{"step": "3"}', b"[" * 10_000)


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_in_the_metrics_is_dropped_and_told_of(tmp_path, caplog, garbage):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "a": 1}\n' + garbage + b'\n{"step": 2, "a": 1}\n' + garbage)
    writer = MetricWriter(str(tmp_path), start_step=2)
    writer.write(3, {"loss": 0})
    writer.close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]
    assert f"warning: {path}: dropped the lines [2, " in caplog.text


@pytest.mark.parametrize("size", [0, 10, 30, 60])
def test_a_full_disk_is_one_line_and_leaves_no_half_a_line(tmp_path, size):
    """Of TensorBoard's file, which is larger, too."""
    with pytest.raises(UserError, match=FULL), disk_of(size):
        writer = MetricWriter(str(tmp_path), start_step=0)
        try:
            writer.write(1, {"loss": 1.0})
        finally:
            writer.close()
    path = tmp_path / "metrics.jsonl"
    assert not path.exists() or path.read_text() in ("", '{"step": 1, "train/loss": 1.0}\n')
    writer = MetricWriter(str(tmp_path), start_step=0)
    writer.write(1, {"loss": 1.0})
    writer.close()
    assert [line["step"] for line in lines(tmp_path)] == [1]
