"""The memory of a built run: what is estimated, what is free, and a step that does not fit."""

import dataclasses
import pathlib
import types

import jax
import pytest
from tiny_student import TINY

import distill_jax
from distill_jax.config import TrainConfig
from distill_jax.errors import UserError
from distill_jax.planning import memory
from distill_jax.training.build import Memory, build
from distill_jax.training.header import header, size


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory")
    options = {
        **dataclasses.asdict(TINY),
        "model_dir": str(folder / "run"),
        "mixture_or_task_name": "entailment_step_by_step",
        "task_feature_lengths": {"inputs": 192, "targets": 96},
        "vocabulary": "train:600",
        "num_examples": 200,
        "batch_examples": 64,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILL_JAX_CACHE", str(folder / "cache"))
        yield TrainConfig(**options)


@pytest.fixture(scope="module")
def run(config):
    return build(config)


def test_a_step_that_does_not_fit_is_refused_before_anything_is_made(config, run, monkeypatch):
    needed = memory.of_run(run).step
    monkeypatch.setattr(memory, "free_bytes", lambda: needed)
    assert memory.of_run(run) == Memory(needed, needed)
    monkeypatch.setattr(memory, "free_bytes", lambda: needed - 1)
    with pytest.raises(UserError) as refused:
        distill_jax.train(config)
    assert not pathlib.Path(config.model_dir).exists()
    words = str(refused.value)
    told = f"a step takes about {size(needed)} of memory, and {size(needed - 1)} are free: --microbatches"
    assert words.startswith(told)
    assert "or lower --batch-examples (BATCH_EXAMPLES) or --lengths" in words and "a smaller --model" in words
    monkeypatch.setattr(memory, "free_bytes", lambda: 10)
    with pytest.raises(UserError, match="are free: lower --batch-examples"):  # no split of the batch would do
        memory.of_run(run)
    unchecked = dataclasses.replace(run, config=dataclasses.replace(run.config, check_memory=False))
    assert memory.of_run(unchecked) == Memory(needed, 10)


def test_what_is_free_is_the_least_of_the_devices_and_of_a_containers_share(monkeypatch, tmp_path):
    figures = [{"bytes_limit": 100, "bytes_in_use": 30}, {"bytes_limit": 100, "bytes_in_use": 60}]
    devices = [types.SimpleNamespace(memory_stats=lambda each=each: each, platform="gpu") for each in figures]
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    assert memory.free_bytes() == 40
    silent = [types.SimpleNamespace(memory_stats=lambda: None, platform="cpu")] * 2
    monkeypatch.setattr(jax, "local_devices", lambda: silent)
    (tmp_path / "meminfo").write_text("MemTotal:       2000 kB\nMemAvailable:   1000 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.free_bytes() == 1000 * 1024 // 2
    (tmp_path / "memory.stat").write_text("anon 1000\nfile 9000\n")
    for most, free in (("max", 1000 * 1024), ("5000", 4000)):
        (tmp_path / "memory.max").write_text(f"{most}\n")
        assert memory.free_bytes() == free // 2
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
    assert memory.free_bytes() is None


def test_the_header_of_a_large_run_fits_ten_lines_of_80_columns(run):
    manifest = {"views": {"label": 6_172_839, "rationale": 6_172_839}, "rows": 1_234_567, "examples": 6_172_839}
    large = dataclasses.replace(
        run,
        config=dataclasses.replace(run.config, train_steps=100_000, batch_size=1024, model_dir="runs/tickets"),
        records=types.SimpleNamespace(manifest=manifest),
        memory=Memory(34_800_000_000, 141_000_000_000),
    )
    lines = header(large, 99_750)
    assert len(lines) == 9 and max(map(len, lines.values())) <= 80 - 9  # and the time, after the first steps
    assert lines["memory"] == "about 34.8 GB a device, 141.0 GB are free"
    assert lines["rows"] == "1,234,567 of 192 + 96 tokens: 12,345,678 pairs, 6,172,839 examples"
    assert "memory" not in header(run, 0)
