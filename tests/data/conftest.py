import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Nothing a test prepares is left behind, or found by another."""
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DISTILL_JAX_DATA_DIR", raising=False)
