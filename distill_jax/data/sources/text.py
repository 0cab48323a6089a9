"""Documents to pretrain on: lines of text files, columns of files of rows, fields of a task's examples."""

import dataclasses
import itertools
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distill_jax import files
from distill_jax.data.schema import Example
from distill_jax.data.sources.base import Source, encodable, fingerprint_of, known_columns, read_lines
from distill_jax.data.sources.tables import TABLES, ending, table_of
from distill_jax.errors import UserError

FIELDS = ("input", "label", "teacher_label", "rationale")  # of an example, that are text


class TextSource:
    """Documents, as examples of the one split `train` whose input is the document and whose id is its place.

    A file that ends in `.jsonl`, `.json`, `.csv` or `.parquet` (`.gz` after it) has documents in columns of its
    rows; any other file is text, a document a line. Blank lines and empty cells are no documents.

    Args:
      paths: of files.
      columns: of the files' rows, and fields of the task's examples; by default `text` and `input`.
      examples: of a task; the documents of its train split come after those of the files.

    Raises:
      UserError: for a folder, and a field that an example does not have. When read: for a file that cannot be,
        a column without any text, and where there is no document at all.
    """

    splits = ("train",)

    def __init__(
        self, paths: Sequence[str | os.PathLike], columns: Sequence[str] = (), examples: Source | None = None
    ):
        self._paths = [pathlib.Path(path) for path in paths]
        self._columns, self._fields = columns or ("text",), columns or ("input",)
        self._examples = examples
        for path in self._paths:
            if path.is_dir():
                raise UserError(f"{path}: is a folder: give the files in it, such as {path}/*.txt")
        unknown = [field for field in self._fields if examples is not None and field not in FIELDS]
        if unknown:
            raise UserError(f"--column {unknown[0]}: a task's examples have {', '.join(FIELDS)}")

    def examples(self, split: str) -> Iterator[Example]:
        """The documents; `split` is `train`."""
        count = 0
        for where, text in self._documents():
            count += 1
            yield Example(where, encodable(where, text))
        if not count:
            names = [*map(str, self._paths), *["the task's train split"] * (self._examples is not None)]
            raise UserError(f"{', '.join(names)}: no text in there: expected a document a line")

    def _documents(self) -> Iterator[tuple[str, str]]:
        for path in self._paths:
            if ending(path) in TABLES:
                rows = table_of(path)({"train": [path]}).rows("train")
                numbered = ((f"{path}, row {number}", row) for _, number, row in rows)
                yield from _cells(numbered, self._columns, str(path))
                continue
            if path.is_file():
                files.refuse_lfs_pointer(path)
            for number, line in read_lines(path):
                yield f"{path}, line {number}", line.rstrip("\n")
        if self._examples is not None:
            rows = ((example.id, dataclasses.asdict(example)) for example in self._examples.examples("train"))
            yield from _cells(rows, self._fields, "the task's train split")

    def size(self, split: str) -> int:
        return sum(1 for _ in self.examples(split))

    def fingerprint(self, split: str) -> str:
        """Hash of the files and of what is read of them."""
        task = "" if self._examples is None else self._examples.fingerprint("train")
        return fingerprint_of(json.dumps([self._columns, self._fields]), task, *self._paths)

    def where(self, split: str, number: int) -> str:
        return next(itertools.islice(self.examples(split), number, None)).id


def _cells(
    rows: Iterator[tuple[str, Mapping[str, Any]]], columns: Sequence[str], name: str
) -> Iterator[tuple[str, str]]:
    """The texts in some columns; `name` is that of all rows together."""
    filled: set[str] = set()
    known: dict[str, None] = {}
    for where, row in rows:
        known |= dict.fromkeys(row)
        for column in columns:
            text = row.get(column)
            if isinstance(text, str) and text.strip():
                filled.add(column)
                yield where, text
            elif text is not None and not isinstance(text, str):
                raise UserError(f"{where}: expected text in {column!r}, got {text!r:.40}")
    for column in columns:
        if known and column not in filled:
            there = known_columns(known, "" if column in known else column, "--column")
            raise UserError(f"{name}: no text in the column {column!r}: {there}")
