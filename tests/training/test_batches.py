"""Batches that are counted in examples, as the paper's code counts them."""

import dataclasses
import json
import logging
import math

import pytest
from tiny_student import TINY

from distill_jax.checkpoints import run_dir
from distill_jax.config import TrainConfig
from distill_jax.data.loader import Loader
from distill_jax.data.row_lengths import row_lengths
from distill_jax.training import trainer
from distill_jax.training.build import batch_rows, build


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILL_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def config_of(folder, **changes):
    options = {
        **dataclasses.asdict(TINY),
        "model_dir": str(folder),
        "mixture_or_task_name": "entailment_step_by_step",
        "task_feature_lengths": {"inputs": 192, "targets": 96},
        "vocabulary": "train:600",
        "schedule": "constant",
        "train_steps": 1,
        "num_examples": 200,
        "eval_period": 0,
    }
    return TrainConfig(**options | changes)


@pytest.mark.parametrize("method, pairs", [("standard", 1), ("step_by_step", 2), ("step_by_step_shared", 2)])
def test_a_batch_of_examples_holds_as_many_pairs_as_the_papers(method, pairs, tmp_path):
    """64 examples are 64 labels, and step by step 64 rationales too; a row is never split."""
    run = build(config_of(tmp_path, mixture_or_task_name=f"entailment_{method}", batch_examples=64))
    loader = Loader(run.records.path, run.config.batch_size, seed=0, num_epochs=1, pad_last=True)
    counts = [int(batch["decoder_segment_ids"].max(axis=1).sum()) for batch in loader]
    assert sum(counts) == 200 * pairs
    whole = counts[:-1]
    in_a_row = 200 * pairs / run.records.manifest["rows"]
    assert in_a_row > 2  # rows are packed
    assert sum(whole) / len(whole) == pytest.approx(64 * pairs, abs=in_a_row / 2 + 0.05 * 64 * pairs)
    assert abs(run.config.batch_size * in_a_row - 64 * pairs) <= in_a_row / 2


def test_the_rows_are_the_nearest_that_the_mesh_allows(caplog):
    manifest = {"with_target": {"label": 600, "rationale": 550}, "rows": 100}
    with caplog.at_level(logging.INFO, "distill_jax"):
        assert [batch_rows(64, manifest, unit) for unit in (1, 4, 8)] == [11, 12, 8]
        assert batch_rows(2, manifest, 1) == 1
    assert [(record.levelname, record.args[3]) for record in caplog.records] == [
        ("INFO", 66.0),
        ("WARNING", 72.0),
        ("WARNING", 48.0),
        ("WARNING", 6.0),
    ]


def test_rows_batch_and_steps_follow_from_the_data_where_nothing_is_given(tmp_path):
    config = config_of(tmp_path, task_feature_lengths=None, batch_size=None, epochs=2.5)
    run = build(config)
    rows = run.records.manifest["rows"]
    assert run.lengths == row_lengths(run.task, run.views, run.vocabulary)
    assert run.config.batch_size == batch_rows(64, run.records.manifest, 1)
    assert run.config.train_steps == math.ceil(2.5 * rows / run.config.batch_size)
    assert build(dataclasses.replace(config, batch_size=3)).config.batch_size == 3


@pytest.mark.parametrize("given, flag", [({"batch_examples": 400}, "EXAMPLES"), ({"batch_size": 90}, "SIZE")])
def test_a_batch_that_is_larger_than_the_data_is_told_of(tmp_path, caplog, given, flag):
    run = build(config_of(tmp_path, **given))
    rows, batch = run.records.manifest["rows"], run.config.batch_size
    assert f"a batch of {batch} rows is larger than the data, {rows} rows: each is in it" in caplog.text
    assert f"{batch / rows:.1f} times on average; lower --batch-{flag.lower()} (BATCH_{flag})" in caplog.text
    caplog.clear()
    build(config_of(tmp_path, batch_examples=64))
    assert "larger than the data" not in caplog.text


def test_a_run_of_so_many_examples_resumes(tmp_path):
    for steps in (1, 2):
        trainer.train(config_of(tmp_path, batch_examples=20, train_steps=steps))
    saved = run_dir.read_config(str(tmp_path))
    assert saved["batch_examples"] == 20 and 1 < saved["batch_size"] < 20
    assert json.loads((tmp_path / "run.json").read_text())["batch_size"] == saved["batch_size"]
    trainer.train(TrainConfig.from_json(saved, train_steps=3))
