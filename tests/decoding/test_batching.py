import numpy as np
import pytest

from distill_jax.decoding.batching import batch_sizes, batches, bucket_length, padded, slot_counts


def test_buckets_double_up_to_the_longest():
    lengths = [1, 16, 17, 33, 90, 100]
    assert [bucket_length(n, 100) for n in lengths] == [16, 16, 32, 64, 100, 100]
    assert bucket_length(100) == 128


@pytest.mark.parametrize("largest, sizes", [(1, [1]), (4, [1, 4]), (10, [1, 4, 10]), (64, [1, 4, 16, 64])])
def test_batch_sizes_quadruple_up_to_the_largest(largest, sizes):
    assert batch_sizes(largest) == sizes


@pytest.mark.parametrize(
    "largest, counts",
    [(1, [1]), (16, [1, 4, 16]), (64, [1, 4, 16, 32, 48, 64]), (128, [1, 4, 16, 32, 64, 96, 128])],
)
def test_a_large_batch_shrinks_by_quarters(largest, counts):
    assert slot_counts(largest) == counts


@pytest.mark.parametrize("count", [1, 3, 57])
def test_every_item_is_in_one_batch_that_holds_it(count):
    lengths = np.random.default_rng(0).integers(1, 100, count).tolist()
    made = list(batches(lengths, 100, 8))
    assert sorted(i for items, _ in made for i in items) == list(range(count))
    assert all(len(items) <= rows and rows in batch_sizes(8) for items, (rows, _) in made)
    assert all(lengths[i] <= length for items, (_, length) in made for i in items)


def test_a_length_with_several_batches_has_one_shape():
    assert [shape for _, shape in batches([5] * 9, 100, 8)] == [(8, 16), (8, 16)]
    assert [shape for _, shape in batches([5] * 3, 100, 8)] == [(4, 16)]


def test_few_shapes_whatever_is_asked():
    rng = np.random.default_rng(1)
    asked = [rng.integers(1, 512, rng.integers(1, 70)).tolist() for _ in range(200)]
    shapes = {shape for lengths in asked for _, shape in batches(lengths, 512, 64)}
    assert len(shapes) <= 4 * 6


def test_padding_is_zero():
    assert padded([[5, 1], [7]], (3, 4)).tolist() == [[5, 1, 0, 0], [7, 0, 0, 0], [0, 0, 0, 0]]
