"""`prepare` and SeqIO take the same examples."""

import sys

import pytest

from benchmarks import prepare_peers
from distill_jax.t5x import seqio_tasks
from distill_jax.tasks import registry


@pytest.fixture
def own_registries(monkeypatch):
    """What the benchmark registers with SeqIO is gone afterwards."""
    import seqio

    monkeypatch.delitem(sys.modules, "distill_jax.tasks.cqa", raising=False)  # is to register itself again
    monkeypatch.setattr(seqio_tasks, "_registered", {})
    monkeypatch.setattr(seqio_tasks, "_vocabulary", None)
    for owner, name in (
        (registry, "_tasks"),
        (seqio.TaskRegistry, "_REGISTRY"),
        (seqio.MixtureRegistry, "_REGISTRY"),
    ):
        monkeypatch.setattr(owner, name, {})


@pytest.mark.slow
def test_all_take_every_example(settings, own_registries):
    found = prepare_peers.run(settings, vocabulary="train:600")
    assert found["examples"] == 108  # two views of the 54 rows that are not held out
    assert all(len(found[name]) == settings.repeats for name in ("ours", "seqio", "sentencepiece"))
