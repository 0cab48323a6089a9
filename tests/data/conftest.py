import json
import os
import pathlib

import pytest

from distill_jax.data import registry
from distill_jax.data.completions import parse_svamp
from distill_jax.data.registry import register_distillation_task
from distill_jax.data.schema import Example
from distill_jax.data.sources import GeneratedSource, HeldOutSource, ReferenceSource

SHARED = pathlib.Path(os.environ.get("DISTILL_JAX_SHARED") or pathlib.Path(__file__).parents[3] / "shared")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Nothing a test prepares is left behind, or found by another."""
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DISTILL_JAX_DATA_DIR", raising=False)


@pytest.fixture
def datasets(monkeypatch):
    if not (SHARED / "datasets").is_dir():
        pytest.skip("no data sets beside the repository")
    monkeypatch.setenv("DISTILL_JAX_DATA_DIR", str(SHARED / "datasets"))
    return SHARED / "datasets"


@pytest.fixture
def samples(monkeypatch):
    if not (SHARED / "samples").is_dir():
        pytest.skip("no samples beside the repository")
    return SHARED / "samples"


def count_up(rng, name):
    first, second = rng.integers(0, 1000, 2)
    why = f"{first} and {second} more make {first + second}." * int(rng.integers(1, 4))
    total = str(first + second)
    return Example(name, f"{first} apples, then {second} more: how many?", total, total, why)


@pytest.fixture
def toy(monkeypatch):
    """A generated task, `toy`, of 300, 20 and 20 examples."""
    monkeypatch.setattr(registry, "_tasks", {})
    with registry.without_seqio():
        source = GeneratedSource(count_up, {"train": 300, "validation": 20, "test": 20})
        return register_distillation_task("toy", source)


def read_row(row):
    return row["input"], row["label"]


class Files:
    """A task `files` in the reference layout, for a test to spoil."""

    def __init__(self, root: pathlib.Path, rows: int = 30, chunk: int = 20):
        self.folder = root / "files"
        (self.folder / "llm").mkdir(parents=True)
        self.source = HeldOutSource(ReferenceSource("files", read_row, parse_svamp))
        self.chunks = [min(chunk, rows - start) for start in range(0, rows, chunk)]
        for split in ("train", "test"):
            lines = [
                json.dumps({"input": f"{n} birds, {n} more\nHow many?", "label": f"( {n} + {n} )"})
                for n in range(rows)
            ]
            self.rows(split).write_text("\n".join(lines) + "\n")
            for k, size in enumerate(self.chunks):
                numbers = range(k * chunk, k * chunk + size)
                texts = [f"{n} and {n}. The answer is ({n} + {n}).\n\nQ: more" for n in numbers]
                self.completions(split, k).write_text(json.dumps(texts))

    def rows(self, split: str) -> pathlib.Path:
        return self.folder / f"files_{split}.json"

    def completions(self, split: str, k: int) -> pathlib.Path:
        return self.folder / "llm" / f"{split}_CoT_{k}.json"


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_JAX_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(registry, "_tasks", {})
    files = Files(tmp_path)
    with registry.without_seqio():
        register_distillation_task("files", files.source)
    return files
