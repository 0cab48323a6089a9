import json

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
