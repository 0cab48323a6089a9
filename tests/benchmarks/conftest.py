"""A student and a set of rows that are small enough to be measured in a test."""

import pytest

from benchmarks import data, students
from benchmarks.settings import Settings
from distill_jax.models.config import T5Config

TINY = dict(
    emb_dim=16,
    num_heads=2,
    num_encoder_layers=1,
    num_decoder_layers=1,
    head_dim=8,
    mlp_dim=32,
    mlp_activations=("gelu", "linear"),
    dropout_rate=0.0,
)


@pytest.fixture
def tiny(monkeypatch):
    """Every size of T5 1.1 is as good as none."""

    def config(size="small", dtype="float32", family="t5_1_1", **changes):
        return T5Config(**TINY | {"vocab_size": 640, "dtype": dtype} | changes)

    monkeypatch.setattr(students, "config", config)
    return config


@pytest.fixture(scope="session")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "rows"
    data.write_generated(folder, {"train": 60, "test": 4})
    return folder


@pytest.fixture
def settings(generated, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "VOCABULARY", "train:600")
    for name in ("DISTILL_JAX_DATA_DIR", "DISTILL_JAX_CACHE"):
        monkeypatch.setenv(name, "")  # `data.use` sets them, the test puts them back
    (tmp_path / "cache").mkdir()
    return Settings(repeats=2, rows=8, batch=4, threads=1, data_dir=str(generated), work=str(tmp_path))
