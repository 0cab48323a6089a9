"""`prepare` and SeqIO take the same examples."""

import pytest

from benchmarks import prepare_peers


@pytest.fixture
def own_registries(monkeypatch):
    """What the benchmark registers with SeqIO is gone afterwards."""
    import seqio

    for provider in (seqio.TaskRegistry, seqio.MixtureRegistry):
        monkeypatch.setattr(provider, "_REGISTRY", {})


@pytest.mark.slow
def test_all_take_every_example(settings, own_registries):
    found = prepare_peers.run(settings, vocabulary="train:600")
    assert found["examples"] == 108  # two views of the 54 rows that are not held out
    assert all(len(found[name]) == settings.repeats for name in ("ours", "seqio", "sentencepiece"))
