"""The user's own files as a task, without code: JSONL, CSV or Parquet, columns mapped by name."""

import itertools
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from distill_jax.data.registry import DistillationTask, register_distillation_task
from distill_jax.data.schema import Example
from distill_jax.data.sources import CsvSource, JsonlSource, ParquetSource, Source, held_out
from distill_jax.errors import UserError

SOURCES = {".jsonl": JsonlSource, ".json": JsonlSource, ".csv": CsvSource, ".parquet": ParquetSource}


class HeldOutSource:
    """A source that has no validation split, with a tenth of its train rows held out as one.

    Where there is no test split either, it is the validation split too.
    """

    def __init__(self, source: Source):
        self._source = source
        self.splits = tuple(dict.fromkeys(["train", "validation", "test", *source.splits]))

    def _from_train(self, split: str) -> bool:
        return split in ("train", "validation") or split not in self._source.splits

    def _numbers(self, split: str) -> Iterator[tuple[int, Example]]:
        rows = sum(1 for _ in self._source.examples("train"))
        out = held_out(rows)
        for number, example in enumerate(self._source.examples("train")):
            if (number in out) == (split != "train"):
                yield number, example

    def examples(self, split: str) -> Iterator[Example]:
        """See `Source`."""
        if not self._from_train(split):
            yield from self._source.examples(split)
            return
        for _, example in self._numbers(split):
            yield example

    def fingerprint(self, split: str) -> str:
        """See `Source`."""
        if not self._from_train(split):
            return self._source.fingerprint(split)
        return f"{self._source.fingerprint('train')}-{'train' if split == 'train' else 'held-out'}"

    def where(self, split: str, number: int) -> str:
        """See `Source`."""
        if not self._from_train(split):
            return self._source.where(split, number)
        index, _ = next(itertools.islice(self._numbers(split), number, None))
        return self._source.where("train", index)


def describe(
    train: str,
    validation: str | None = None,
    test: str | None = None,
    columns: Mapping[str, str] | None = None,
    classes: list[str] | None = None,
) -> dict[str, Any]:
    """What `register_own` takes, with absolute paths, for a run's folder to remember.

    Raises:
      UserError: for a file of another kind than JSONL, CSV or Parquet.
    """
    files = {"train": train, "validation": validation, "test": test}
    paths = {split: str(pathlib.Path(path).absolute()) for split, path in files.items() if path}
    kinds = {pathlib.Path(path).suffix.lower() for path in paths.values()}
    if len(kinds) != 1 or not kinds <= set(SOURCES):
        expected, got = ", ".join(sorted(SOURCES)), ", ".join(paths.values())
        raise UserError(f"--data: expected files of one kind of {expected}, got {got}")
    return {"files": paths, "columns": dict(columns or {}), "classes": classes}


def own_name(description: Mapping[str, Any]) -> str:
    """Name of the task: the train file's, in lower case letters, digits and underscores."""
    stem = pathlib.Path(description["files"]["train"]).stem
    return re.sub(r"\W+", "_", stem).strip("_").lower() or "data"


def register_own(description: Mapping[str, Any]) -> DistillationTask:
    """Registers the task of a `describe`, under `own_name`; its splits are made up where files lack.

    Raises:
      UserError: for an unknown field among the columns, or when another task has the name.
    """
    kind = SOURCES[pathlib.Path(description["files"]["train"]).suffix.lower()]
    files = {split: [path] for split, path in description["files"].items()}
    if "validation" in files:
        files.setdefault("test", files["validation"])
    source = kind(files, description["columns"])
    if "validation" not in files:
        source = HeldOutSource(source)
    return register_distillation_task(own_name(description), source, classes=description["classes"])
