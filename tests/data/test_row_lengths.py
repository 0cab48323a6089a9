import pytest

from distill_jax.data import row_lengths as module
from distill_jax.data.row_lengths import row_lengths
from distill_jax.data.schema import Example
from distill_jax.data.sources import GeneratedSource
from distill_jax.data.vocabularies import load_vocabulary
from distill_jax.tasks.definition import define_task


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path))


@pytest.fixture
def task():
    """Of 200 examples: inputs of 20 letters, one of 900, and two of 30; labels of 3, rationales of 10 or 40."""

    def make(rng, name):
        number = int(name.rpartition("-")[2])
        size = {0: 900, 1: 30, 2: 30}.get(number, 20)
        why = "w" * (40 if number < 3 else 10)
        return Example(name, f"{number:03}" + "x" * (size - 3), "yes", None, why)

    return define_task("sized", GeneratedSource(make, {"train": 200, "validation": 1, "test": 1}))


@pytest.mark.parametrize(
    ("method", "one", "packed"),
    [
        # 30 letters and the end token; 3 and the end token. Eight times the means, 21.15 and 4.
        ("standard", {"inputs": 32, "targets": 8}, {"inputs": 176, "targets": 32}),
        # With `[rationale] `, 12 letters; 41 to 48. Eight times 31.16 and 7.725.
        ("step_by_step", {"inputs": 48, "targets": 48}, {"inputs": 256, "targets": 64}),
        # 4 + 41 in one row. Eight times 21.15 and 15.45.
        ("step_by_step_shared", {"inputs": 32, "targets": 48}, {"inputs": 176, "targets": 128}),
    ],
)
def test_all_but_the_longest_hundredth_fit_by_hand(task, method, one, packed):
    assert row_lengths(task, task.views(method), load_vocabulary("bytes"), pack=False) == one
    assert row_lengths(task, task.views(method), load_vocabulary("bytes")) == packed


def test_lengths_end_where_the_papers_code_cuts():
    def make(rng, name):
        return Example(name, name + "x" * 2000, "y" * 500)

    long = define_task("long", GeneratedSource(make, {"train": 3, "validation": 1, "test": 1}))
    lengths = row_lengths(long, long.views("standard"), load_vocabulary("bytes"))
    assert lengths == {"inputs": 1024, "targets": 256}


def test_they_are_measured_once(task, monkeypatch):
    vocabulary = load_vocabulary("bytes")
    first = row_lengths(task, task.views("standard"), vocabulary)
    monkeypatch.setattr(module, "tokenize", lambda *args: pytest.fail("measured again"))
    assert row_lengths(task, task.views("standard"), vocabulary) == first
