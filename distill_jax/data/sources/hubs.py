"""Sets of TensorFlow Datasets, of Hugging Face's hub, and SeqIO tasks, as rows with named columns.

They are fetched by their own libraries when they are first read. Class numbers become class names; -1 stands
for a row without a label.
"""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from distill_jax.data.schema import Example
from distill_jax.data.sources.base import fingerprint_of
from distill_jax.data.sources.columns import Columns
from distill_jax.data.vocabularies import END
from distill_jax.errors import UserError

SPLITS = {"train": "train", "validation": "validation", "test": "test"}


class _HubSource:
    """A set of a hub, by its `name` there; most arguments are those of `Columns`.

    `splits` has the hub's split by ours; default the three of the same name that are there. A subclass has
    `_there()`, the hub's names of the set's splits, `_version()`, and `rows(split)`: the rows of the hub's
    split, of texts, numbers and lists of them.
    """

    hub = ""

    def __init__(
        self,
        name: str,
        columns: Mapping[str, str] | None = None,
        splits: Mapping[str, str] | None = None,
        needs_target: bool = True,
        classes: Sequence[str] | None = None,
    ):
        self.name = name
        self._columns = Columns(columns, needs_target, classes)
        self._asked = dict(splits) if splits else None

    @functools.cached_property
    def _splits(self) -> dict[str, str]:
        there = self._there()
        if self._asked is None:
            return {ours: theirs for ours, theirs in SPLITS.items() if theirs in there}
        for theirs in self._asked.values():
            if theirs not in there:
                raise UserError(f"{self.hub}:{self.name} has no split {theirs!r}: {', '.join(there)}")
        return self._asked

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._splits)

    def examples(self, split: str) -> Iterator[Example]:
        theirs = self._splits[split]
        if split == self.splits[0]:  # train
            self._columns.require(f"{self.hub}:{self.name}, {theirs}", self.rows(theirs))
        for number, row in enumerate(self.rows(theirs)):
            yield self._columns.example(self.where(split, number), f"{theirs}-{number}", row)

    def size(self, split: str) -> int:
        return sum(1 for _ in self.rows(self._splits[split]))

    def fingerprint(self, split: str) -> str:
        """Hash of name, version and columns."""
        return fingerprint_of(self.hub, self.name, self._version(), self._splits[split], self._columns.key)

    def where(self, split: str, number: int) -> str:
        return f"{self.hub}:{self.name}, {self._splits[split]}, row {number + 1}"


def _plain(value: Any) -> Any:
    """NumPy's and TensorFlow's values as Python's: bytes as text, arrays as lists."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    return value.item() if isinstance(value, np.generic) else value


def _decode(vocabulary, ids: list[int]) -> str:
    """Text of a SeqIO vocabulary's ids, with `</s>` for each end token that something follows."""
    parts: list[list[int]] = [[]]
    for token in ids:
        if token == vocabulary.eos_id:
            parts.append([])
        else:
            parts[-1].append(token)
    while len(parts) > 1 and not any(parts[-1]):  # the last end token, and padding
        parts.pop()
    return END.join(vocabulary.decode(part) for part in parts)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{text[:300]}…" if len(text) > 300 else text or type(error).__name__


class TfdsSource(_HubSource):
    """A set of TensorFlow Datasets, such as `esnli` or `glue/mnli`."""

    hub = "tfds"

    @functools.cached_property
    def _builder(self):
        if ":" in self.name:
            raise UserError(
                f"tfds:{self.name}: a community set, whose code would be downloaded and run: export it to JSONL"
            )
        import tensorflow_datasets as tfds

        try:
            builder = tfds.builder(self.name)
            builder.download_and_prepare()
        except Exception as error:
            raise UserError(f"tfds:{self.name}: cannot be had: {_one_line(error)}") from error
        return builder

    def _there(self):
        return list(self._builder.info.splits)

    def _version(self):
        return str(self._builder.info.full_name)

    def rows(self, split):
        import tensorflow_datasets as tfds

        features = self._builder.info.features
        for row in tfds.as_numpy(self._builder.as_dataset(split=split)):
            names = {
                name: features[name].int2str(value) if value >= 0 else -1
                for name, value in row.items()
                if isinstance(features[name], tfds.features.ClassLabel)
            }
            yield {name: _plain(value) for name, value in row.items()} | names

    def size(self, split: str) -> int:
        return self._builder.info.splits[self._splits[split]].num_examples


class HuggingFaceSource(_HubSource):
    """A set of Hugging Face's hub, such as `facebook/anli`, or a local folder; a configuration follows a colon.

    Needs the package `datasets` (`pip install distill_jax[huggingface]`).
    """

    hub = "hf"

    @functools.cached_property
    def _sets(self):
        try:
            import datasets
        except ModuleNotFoundError:
            raise UserError(
                f"hf:{self.name} needs the package datasets: pip install 'distill_jax[huggingface]'"
            ) from None
        path, _, config = self.name.partition(":")
        try:
            return datasets.load_dataset(path, config or None)
        except Exception as error:
            raise UserError(f"hf:{self.name}: cannot be had: {_one_line(error)}") from error

    def _there(self):
        return list(self._sets)

    def _version(self):
        return json.dumps({name: rows._fingerprint for name, rows in self._sets.items()}, sort_keys=True)

    def rows(self, split):
        from datasets import ClassLabel

        rows = self._sets[split]
        classes = {name: f for name, f in rows.features.items() if isinstance(f, ClassLabel)}
        for row in rows:
            names = {
                name: feature.int2str(row[name])
                for name, feature in classes.items()
                if row[name] is not None and row[name] >= 0
            }
            yield row | names

    def size(self, split: str) -> int:
        return len(self._sets[self._splits[split]])


class SeqioSource(_HubSource):
    """A registered SeqIO task: the texts under `inputs` and `targets`, or what their ids decode to.

    The module that registers the task must have been imported. The columns `inputs` and `targets` are input
    and label unless others are named.
    """

    hub = "seqio"

    def __init__(self, name, columns=None, *args, **kwargs):
        super().__init__(name, {"input": "inputs", "label": "targets"} | dict(columns or {}), *args, **kwargs)

    @functools.cached_property
    def _task(self):
        import seqio

        if self.name not in seqio.TaskRegistry.names():
            raise UserError(
                f"seqio:{self.name}: no such SeqIO task: import the module that registers it (--module)"
            )
        return seqio.TaskRegistry.get(self.name)

    def _there(self):
        return list(self._task.splits)

    def _version(self):
        first = next(iter(self.rows(self._there()[0])), {})  # SeqIO's tasks have no version
        return json.dumps(first, sort_keys=True, default=str)

    def rows(self, split):
        for row in self._task.get_dataset(None, split, shuffle=False).as_numpy_iterator():
            texts = {name: _plain(value) for name, value in row.items()}
            for name, feature in self._task.output_features.items():
                text = texts.pop(f"{name}_pretokenized", None)
                texts[name] = _decode(feature.vocabulary, texts[name]) if text is None else text
            yield texts
