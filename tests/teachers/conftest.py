import os
import pathlib
import sys

import pytest

from distill_jax.teachers.store import Store

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from loopback_teacher import Loopback

SHARED = pathlib.Path(os.environ.get("DISTILL_JAX_SHARED") or pathlib.Path(__file__).parents[3] / "shared")


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("DISTILL_JAX_DATA_DIR", raising=False)
    monkeypatch.delenv("DISTILL_JAX_TEACHER", raising=False)
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def datasets(monkeypatch):
    if not (SHARED / "datasets").is_dir():
        pytest.skip("no data sets beside the repository")
    monkeypatch.setenv("DISTILL_JAX_DATA_DIR", str(SHARED / "datasets"))
    return SHARED / "datasets"


@pytest.fixture
def loopback():
    """Makes servers; all are stopped when the test ends."""
    servers = []

    def make(**options) -> Loopback:
        servers.append(Loopback(**options).__enter__())
        return servers[-1]

    yield make
    for server in servers:
        server.__exit__()


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store.jsonl") as store:
        yield store
