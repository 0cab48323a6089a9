"""Groups token lists into batches of few static shapes, so that few programs are compiled."""

from collections.abc import Iterator, Sequence

import numpy as np

SHORTEST = 16  # smallest padded length; each further one is twice as long
GROWTH = 4  # each batch size is so many times the one before
QUARTERED = 64  # from this size on a step costs more than a program of one more size is worth


def bucket_length(length: int, longest: int | None = None) -> int:
    """The padded length for `length` tokens: a power of 2, or `longest` where that is less and enough."""
    bucket = SHORTEST
    while bucket < length:
        bucket *= 2
    return bucket if longest is None else min(bucket, max(longest, length))


def fine_length(length: int) -> int:
    """As `bucket_length`, with three lengths between one and its double: for programs that compile quickly."""
    bucket = bucket_length(length)
    return next(size for size in (bucket * part // 8 for part in (5, 6, 7, 8)) if size >= length)


def batch_sizes(largest: int) -> list[int]:
    """The batch sizes that are compiled: 1, 4, 16 and so on, and `largest`."""
    sizes = [1]
    while sizes[-1] * GROWTH < largest:
        sizes.append(sizes[-1] * GROWTH)
    return sizes if largest == 1 else [*sizes, largest]


def slot_counts(largest: int) -> list[int]:
    """The sizes that a batch shrinks to as its rows end: those of `batch_sizes`, and quarters of a large one.

    Where outputs differ in length, much of the time goes to the last of them.
    """
    quarters = [largest * part // 4 for part in (1, 2, 3)] if largest >= QUARTERED else []
    return sorted({*batch_sizes(largest), *quarters})


def padded_rows(items: int, largest: int) -> int:
    """The size of the batch that holds so many items: one of `batch_sizes`, the largest for more."""
    return next((size for size in batch_sizes(largest) if size >= items), largest)


def batches(
    lengths: Sequence[int], longest: int, batch_size: int
) -> Iterator[tuple[list[int], tuple[int, int]]]:
    """Groups items of `lengths` tokens by padded length, `longest` at most; every item is in one batch.

    A length with more than one batch has only full-sized ones, as those are compiled anyway.

    Yields:
      The items of a batch, and the shape (rows, length) of the array that holds them; the shortest first.
    """
    buckets: dict[int, list[int]] = {}
    for item in np.argsort(lengths, kind="stable").tolist():
        buckets.setdefault(bucket_length(lengths[item], longest), []).append(item)
    for length, items in sorted(buckets.items()):
        rows = padded_rows(len(items), batch_size)
        for start in range(0, len(items), batch_size):
            yield items[start : start + batch_size], (rows, length)


def padded(rows: Sequence[Sequence[int]], shape: tuple[int, int], pad_id: int = 0) -> np.ndarray:
    """int32 [rows, length] with `pad_id` after each row's tokens, and rows of nothing else at the end."""
    array = np.full(shape, pad_id, np.int32)
    for number, tokens in enumerate(rows):
        array[number, : len(tokens)] = tokens
    return array
