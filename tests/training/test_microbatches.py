"""The parts of a batch on a CPU, and the padding of one that they do not divide."""

import numpy as np
import pytest
from tiny_student import TINY

from distill_jax.training import microbatches
from distill_jax.training.mesh import AXES
from distill_jax.training.partitioning import make_partitioner


@pytest.mark.parametrize(
    "rows, tokens, parts",
    [
        (16, 512, 4),
        (17, 512, 6),
        (64, 512, 16),
        (4, 512, 1),
        (5, 512, 2),
        (7, 2048, 7),
        (3, 9000, 3),
        (64, 16, 1),
    ],
)
def test_parts_have_few_tokens_and_little_padding(rows, tokens, parts):
    assert microbatches.parts(rows, tokens) == parts
    each = microbatches.divisible(rows, parts) // parts
    assert each == 1 or each * tokens <= microbatches.TOKENS
    assert microbatches.divisible(rows, parts) - rows < parts


def test_what_is_asked_for_is_taken():
    place = make_partitioner(TINY, 17, 1, dict.fromkeys(AXES, 1), "data_parallel")
    assert microbatches.of_run(2, 17, 512, place) == 2
    assert microbatches.of_run(None, 17, 512, place) == 6


def test_a_batch_is_padded_with_empty_rows():
    batch, empty = {"tokens": np.arange(15).reshape(5, 3)}, {"tokens": np.zeros(3, np.int64)}
    padded = microbatches.padded(batch, empty, 2)["tokens"]
    np.testing.assert_array_equal(padded[:5], batch["tokens"])
    assert padded.shape == (6, 3) and not padded[5].any() and padded.dtype == np.int64
    assert microbatches.padded(batch, empty, 5)["tokens"] is batch["tokens"]
