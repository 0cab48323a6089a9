"""What follows from the options of a run."""

import pytest

from distill_jax.config import TrainConfig


@pytest.mark.parametrize(
    ("options", "rows", "steps"),
    [
        ({}, 640, 640),  # ten epochs of 64 batches
        ({"initial_checkpoint_path": "none"}, 640, 1280),  # random weights: twenty
        ({}, 20, 100),
        ({}, 1_000_000, 10_000),
        ({"epochs": 2.5}, 21, 6),
        ({"train_steps": 7}, 640, 7),
    ],
)
def test_the_steps_of_own_data_follow_from_its_rows(options, rows, steps):
    assert TrainConfig(data="rows.csv", batch_size=10, **options).steps_of(rows) == steps


def test_a_task_takes_the_papers_steps_unless_told_otherwise():
    config = TrainConfig(mixture_or_task_name="svamp")
    assert config.train_steps == 10_000 and TrainConfig.from_json(config.to_json()).train_steps == 10_000
    told = TrainConfig(mixture_or_task_name="svamp", epochs=2, batch_size=10)
    assert told.steps_of(100) == 20
