"""Batches from prepared records: shuffled by epoch, sharded by host, resumable to the batch."""

import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grain
import numpy as np

from distill_jax.config import TrainConfig
from distill_jax.data.documents import SpanCorruption
from distill_jax.data.records import Segment, damaged, decode_row, open_rows, read_manifest, to_features
from distill_jax.errors import UserError, words_of

Batch = dict[str, np.ndarray]
FOREVER = 1 << 48  # rows


class _Rows:
    """Records as a random-access source: number `i` is record `order(i // rows)[i % rows]`, decoded.

    With a `corruption` its windows are turned into pairs, other ones in each epoch.
    """

    def __init__(
        self,
        path: pathlib.Path,
        records,
        order: Callable[[int], Sequence[int]],
        num_epochs: int | None,
        corruption: SpanCorruption | None,
        seed: int,
    ):
        self._path, self._records, self._order = path, records, order
        self._corruption, self._seed = corruption, seed
        self._length = FOREVER if num_epochs is None else num_epochs * len(records)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: int) -> Sequence[Segment]:
        epoch, place = divmod(number, len(self._records))
        try:
            segments = decode_row(self._records[int(self._order(epoch)[place])])
        except (RuntimeError, ValueError, IndexError) as error:
            raise damaged(self._path / "rows.array_record", error) from None
        if self._corruption is None:
            return segments
        return [self._corruption.corrupt(segment, self._seed, epoch) for segment in segments]

    def close(self) -> None:
        """Lets go of the records: their file is closed when no thread reads it any more."""
        del self._records


def balanced_order(label_tokens: np.ndarray, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """A random order of rows in which every batch has about as many label tokens as any other.

    A label's weight is one over the label tokens of its batch. Rows that are packed with many labels would make
    their own batches heavy, and so weigh each of these labels less, epoch after epoch. So the rows are sorted
    by their label tokens (ties at random), cut into `batch_size` strata, and dealt out one of each stratum in
    turn (stratified sampling); within a stratum the order is random, and so is that of the strata in a batch.

    Args:
      label_tokens: int [rows].
      batch_size: rows of a global batch.
      seed, epoch: each pair has its own order.

    Returns:
      int [rows], a permutation.
    """
    random, rows = np.random.default_rng((seed, epoch)), len(label_tokens)
    sizes = np.full(batch_size, rows // batch_size)
    sizes[random.permutation(batch_size)[: rows % batch_size]] += 1
    by_tokens = np.lexsort((random.random(rows), label_tokens))
    turn = np.concatenate([random.permutation(size) for size in sizes if size])
    # The strata that are one larger deal that row in the last turn, which the next epoch fills up to a batch.
    return by_tokens[np.lexsort((random.random(rows), turn))]


class Loader:
    """An iterator of batches: features of `records.to_features`, each [batch / hosts, length].

    The order of the rows depends on (`seed`, epoch, `batch_size`) alone, and host `p` of `P` takes the `p`-th
    of `P` equal parts of each global batch: so the n-th global batch does not depend on the number of hosts,
    nor does the position that `get_state` gives, which can be handed to another number of them.

    It reads ahead in threads, from an open file: `close` ends both, as `with contextlib.closing(loader)` does.

    Args:
      path: a folder that `prepare` wrote.
      batch_size: rows of a global batch.
      shuffle: each epoch in its `balanced_order`; else in the order of the records.
      num_epochs: None for ever. A batch may hold the end of an epoch and the start of the next.
      pad_last: fills the last batch of the last epoch with empty rows, instead of dropping it.
      process_index, process_count: this host's number, and how many there are.

    Raises:
      UserError: when `batch_size` does not divide by the number of hosts, or the folder holds no
        prepared records.

    Attributes:
      empty_row: a row of padding alone, [length] of each feature: its shapes and types are those of all.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        batch_size: int,
        *,
        seed: int,
        shuffle: bool = True,
        num_epochs: int | None = None,
        pad_last: bool = False,
        process_index: int = 0,
        process_count: int = 1,
    ):
        if batch_size < 1 or batch_size % process_count:
            option = TrainConfig.named("batch_size")
            raise UserError(f"{option} {batch_size} does not divide by {process_count} hosts")
        path = pathlib.Path(path)
        manifest = read_manifest(path)
        try:
            layout = [manifest[name] for name in ("task_feature_lengths", "soft", "top_k", "shared")]
            corruption = manifest.get("corruption") and SpanCorruption(**manifest["corruption"])
        except (KeyError, TypeError) as error:
            raise damaged(path / "manifest.json", error) from None
        records, label_tokens = open_rows(path)

        def features(segments: Sequence[Segment]) -> Batch:
            try:
                return to_features(segments, *layout)
            except (ValueError, IndexError, TypeError, MemoryError) as error:  # records of another manifest
                raise damaged(path / "manifest.json", error) from None

        def collate(rows: list[Batch]) -> Batch:
            return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

        @functools.lru_cache(maxsize=4)
        def order(epoch: int) -> Sequence[int]:
            if not shuffle:
                return range(len(label_tokens))
            return balanced_order(label_tokens, batch_size, seed, epoch)

        self._source = _Rows(path, records, order, num_epochs, corruption, seed)
        dataset = grain.MapDataset.source(self._source)
        if num_epochs is not None:
            over = len(dataset) % batch_size
            if over and pad_last:
                empty: list[Sequence[Segment]] = [()] * (batch_size - over)
                dataset = grain.MapDataset.concatenate([dataset, grain.MapDataset.source(empty)])
            elif over:
                dataset = dataset[: len(dataset) - over]
        self._rows, self._batch_size = dataset, batch_size
        self.empty_row: Batch = features(())
        dataset = dataset.map(features)
        dataset = dataset.batch(batch_size // process_count, drop_remainder=True, batch_fn=collate)
        dataset = dataset[process_index::process_count]
        options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)
        self._iterator = iter(dataset.to_iter_dataset(options))

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return next(self._iterator)

    def close(self) -> None:
        """Ends the threads and closes the file, which Grain's cycles of objects would keep for a long time."""
        self._iterator.close()
        self._source.close()

    def examples(self, batch: int) -> list[int]:
        """Numbers in their split of the examples in a global batch, of all hosts; batches count from 0."""
        rows = range(batch * self._batch_size, (batch + 1) * self._batch_size)
        return sorted({segment.example for row in rows for segment in self._rows[row]})

    def get_state(self) -> dict[str, Any]:
        """The position, for JSON: after the batches handed out, whatever is read ahead."""
        return self._iterator.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a position of `get_state`, of a loader with the same arguments.

        Raises UserError when it is none.
        """
        try:
            self._iterator.set_state(state)
        except Exception as error:  # Grain's iterators have many kinds
            raise UserError(f"the place in the data {state!r:.80} is none: {words_of(error):.200}") from None
