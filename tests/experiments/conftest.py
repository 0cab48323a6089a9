"""The demo's task with few rows to score."""

import itertools

import pytest

from distill_jax.tasks import registry

SIZES = {"train": 3000, "validation": 20, "test": 40}


@pytest.fixture
def small_entailment(monkeypatch):
    """The task `entailment` of the first examples of each split."""
    source = registry.get_task("entailment").source
    examples = source.examples
    monkeypatch.setattr(source, "examples", lambda split: itertools.islice(examples(split), SIZES[split]))
    monkeypatch.setattr(source, "size", SIZES.__getitem__)
