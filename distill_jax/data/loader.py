"""Batches from prepared records: shuffled by epoch, sharded by host, resumable to the batch."""

import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import grain
import numpy as np

from distill_jax.data.records import decode_row, to_features
from distill_jax.errors import UserError

Batch = dict[str, np.ndarray]


class Loader:
    """An iterator of batches: features of `records.to_features`, each [batch / hosts, length].

    The order of the rows depends on (`seed`, epoch) alone, and host `p` of `P` takes every `P`-th of
    them: so the rows of the n-th global batch do not depend on the number of hosts.

    Args:
      path: a folder that `prepare` wrote.
      batch_size: rows of a global batch.
      seed: of the order.
      shuffle: a new order each epoch; else the order of the records.
      num_epochs: None for ever; batches run on across the end of an epoch.
      pad_last: fills the last batch of the last epoch with empty rows, instead of dropping it.
      process_index: this host.
      process_count: number of hosts.

    Raises:
      UserError: when `batch_size` does not divide by the number of hosts.
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
        if batch_size % process_count:
            raise UserError(f"BATCH_SIZE {batch_size} does not divide by {process_count} hosts")
        path = pathlib.Path(path)
        lengths = json.loads((path / "manifest.json").read_text())["task_feature_lengths"]
        rows = batch_size // process_count

        def features(record: bytes) -> Batch:
            return to_features(decode_row(record), lengths)

        def collate(samples: list[Batch]) -> Batch:
            missing = rows - len(samples) if pad_last else 0
            samples = [*samples, *[to_features((), lengths)] * missing]
            return {name: np.stack([s[name] for s in samples]) for name in samples[0]}

        source = grain.sources.ArrayRecordDataSource([str(path / "rows.array_record")])
        dataset = grain.MapDataset.source(source).seed(seed)
        if shuffle:
            dataset = dataset.shuffle()
        dataset = dataset.repeat(num_epochs)[process_index::process_count].map(features)
        dataset = dataset.batch(rows, drop_remainder=not pad_last, batch_fn=collate)
        options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)
        self._iterator = iter(dataset.to_iter_dataset(options))

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return next(self._iterator)

    def get_state(self) -> dict[str, Any]:
        """The position: after the batches that were handed out, whatever is read ahead."""
        return self._iterator.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a position of `get_state`, of a loader with the same arguments."""
        self._iterator.set_state(state)
