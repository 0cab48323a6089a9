"""Batches from prepared records: shuffled by epoch, sharded by host, resumable to the batch."""

import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import grain
import numpy as np

from distill_jax.data.records import decode_row, encode_row, to_features
from distill_jax.errors import UserError

Batch = dict[str, np.ndarray]


class Loader:
    """An iterator of batches: features of `records.to_features`, each [batch / hosts, length].

    The order of the rows depends on (`seed`, epoch) alone, and host `p` of `P` takes the `p`-th of `P` equal
    parts of each global batch: so the n-th global batch does not depend on the number of hosts, nor does
    the position that `get_state` gives, which can be handed to another number of them.

    Args:
      path: a folder that `prepare` wrote.
      batch_size: rows of a global batch.
      seed: of the order.
      shuffle: a new order each epoch; else the order of the records.
      num_epochs: None for ever. Batches run on across the end of an epoch.
      pad_last: fills the last batch of the last epoch with empty rows, instead of dropping it.
      process_index: this host.
      process_count: number of hosts.

    Raises:
      UserError: when `batch_size` does not divide by the number of hosts, or the folder holds no
        prepared records.
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
            raise UserError(f"BATCH_SIZE {batch_size} does not divide by {process_count} hosts")
        path = pathlib.Path(path)
        try:
            manifest = json.loads((path / "manifest.json").read_text())
            names = ("task_feature_lengths", "soft", "top_k", "shared")
            lengths, soft, top_k, shared = (manifest[name] for name in names)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path}: no prepared records in there: {error}") from None

        def features(record: bytes) -> Batch:
            return to_features(decode_row(record), lengths, soft, top_k, shared)

        def collate(rows: list[Batch]) -> Batch:
            return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

        source = grain.sources.ArrayRecordDataSource([str(path / "rows.array_record")])
        dataset = grain.MapDataset.source(source).seed(seed)
        if shuffle:
            dataset = dataset.shuffle()
        dataset = dataset.repeat(num_epochs)
        if num_epochs is not None:
            over = len(dataset) % batch_size
            if over and pad_last:
                empty = [encode_row([])] * (batch_size - over)
                dataset = grain.MapDataset.concatenate([dataset, grain.MapDataset.source(empty)])
            elif over:
                dataset = dataset[: len(dataset) - over]
        self._rows, self._batch_size = dataset, batch_size
        dataset = dataset.map(features)
        dataset = dataset.batch(batch_size // process_count, drop_remainder=True, batch_fn=collate)
        dataset = dataset[process_index::process_count]
        options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)
        self._iterator = iter(dataset.to_iter_dataset(options))

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return next(self._iterator)

    def examples(self, batch: int) -> list[int]:
        """Numbers in their split of the examples in a global batch, of all hosts; batches count from 0."""
        rows = range(batch * self._batch_size, (batch + 1) * self._batch_size)
        return sorted({segment.example for row in rows for segment in decode_row(self._rows[row])})

    def get_state(self) -> dict[str, Any]:
        """The position, for JSON: after the batches handed out, whatever is read ahead."""
        return self._iterator.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a position of `get_state`, of a loader with the same arguments."""
        self._iterator.set_state(state)
