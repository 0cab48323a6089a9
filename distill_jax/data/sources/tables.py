"""Files of rows: JSONL, CSV, Parquet."""

import csv
import itertools
import logging
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distill_jax import files
from distill_jax.data.schema import Example
from distill_jax.data.sources.base import fingerprint_of, read_jsonl, read_lines
from distill_jax.data.sources.columns import Columns
from distill_jax.errors import UserError
from distill_jax.files import unreadable

logger = logging.getLogger(__name__)


class _TableSource:
    """Files of rows, one or more a split; the other arguments are those of `Columns`."""

    unit = "row"
    typed = True  # whether a number differs from its text

    def __init__(
        self,
        paths: Mapping[str, Sequence[str | os.PathLike]],
        columns: Mapping[str, str] | None = None,
        needs_target: bool = True,
        classes: Sequence[str] | None = None,
    ):
        self._columns = Columns(columns, needs_target, classes, self.typed)
        self._paths = {split: [pathlib.Path(p) for p in of_split] for split, of_split in paths.items()}
        self.splits = tuple(self._paths)
        self._told: set[str] = set()  # splits whose repeated choices were told

    def _rows(self, path: pathlib.Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
        raise NotImplementedError

    def _count(self, path: pathlib.Path) -> int:
        return sum(1 for _ in self._rows(path))

    def rows(self, split: str) -> Iterator[tuple[pathlib.Path, int, Mapping[str, Any]]]:
        """Streams (file, number of the row in it, column -> value)."""
        for path in self._paths[split]:
            for number, row in self._rows(path):
                yield path, number, row

    def examples(self, split: str) -> Iterator[Example]:
        if split == self.splits[0]:  # train
            name = ", ".join(map(str, self._paths[split]))
            self._columns.require(name, (row for _, _, row in self.rows(split)))
        repeated, first = 0, ""
        for path, number, row in self.rows(split):
            where = f"{path}, {self.unit} {number}"
            yield self._columns.example(where, None, row)
            if self._columns.repeats_choice(where, row):
                repeated, first = repeated + 1, first or where
        if repeated and split not in self._told:
            self._told.add(split)
            logger.warning(
                "warning: %s: a choice stands twice, in %d rows of %s: taken as one", first, repeated, split
            )

    def inputs(self, split: str) -> Iterator[tuple[Mapping[str, Any], Example]]:
        """Rows of a split and what a student needs of each: no label; the id is its place, `FILE, line N`."""
        for path, number, row in self.rows(split):
            yield row, self._columns.input(f"{path}, {self.unit} {number}", row)

    def size(self, split: str) -> int:
        return sum(map(self._count, self._paths[split]))

    def fingerprint(self, split: str) -> str:
        """Hash of the split's files and the mapping of columns."""
        return fingerprint_of(self._columns.key, *self._paths[split])

    def where(self, split: str, number: int) -> str:
        path, row, _ = next(itertools.islice(self.rows(split), number, None))
        return f"{path}, {self.unit} {row}"


class JsonlSource(_TableSource):
    """JSON lines, an object each; `advice` ends the error of a line that is none."""

    unit, advice = "line", ""

    def _rows(self, path):
        return read_jsonl(path, self.advice)

    def _count(self, path):
        return sum(1 for _ in read_lines(path))


class TextLines(_TableSource):
    """Plain text, an input a line; blank lines are left out, counted and told."""

    unit = "line"

    def _rows(self, path):
        rows = number = 0
        for rows, (number, line) in enumerate(read_lines(path), 1):  # noqa: B007, read after the loop
            if "\0" in line:
                raise UserError(f"{path}, line {number}: a NUL character: expected plain text, an input a line")
            yield number, {"input": line.removesuffix("\n")}
        if number > rows:
            logger.warning("warning: %s: %d blank lines left out", path, number - rows)


class CsvSource(_TableSource):
    """CSV files with a header; `label_probs` is a JSON list."""

    typed = False

    def _rows(self, path):
        csv.field_size_limit(1 << 30)
        try:
            with files.open_text(path, newline="") as file:
                reader = csv.DictReader(file, strict=True)
                _refuse_twins(path, reader.fieldnames or ())
                for number, row in enumerate(reader, 1):
                    first, *others = row.values()
                    if others and all(value is None for value in others) and not first.strip():
                        continue  # a line of white space
                    if None in row or None in row.values():
                        expected = len(reader.fieldnames)
                        raise UserError(f"{path}, row {number}: expected the {expected} columns of the header")
                    yield number, row
        except csv.Error as error:
            raise UserError(f"{path}, line {reader.line_num}: invalid CSV ({error})") from None
        except files.UNREADABLE as error:
            raise unreadable(path, error) from None


class ParquetSource(_TableSource):
    """Parquet files, read a batch of rows at a time."""

    def _rows(self, path):
        import pyarrow
        import pyarrow.parquet

        if not path.exists():
            raise UserError(f"{path}: no such file")
        try:
            file = pyarrow.parquet.ParquetFile(path)
            _refuse_twins(path, file.schema_arrow.names)
            batches = file.iter_batches(1024)
            yield from enumerate((row for batch in batches for row in batch.to_pylist()), 1)
        except (pyarrow.ArrowException, OSError, ValueError, ArithmeticError) as error:  # of texts and dates
            what = " ".join(str(error).split())
            raise UserError(f"{path}: not a whole Parquet file: {what}") from None


def _refuse_twins(path: pathlib.Path, names: Sequence[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{path}: two columns are named {twice!r}: rename one of them")


TABLES = {".jsonl": JsonlSource, ".json": JsonlSource, ".csv": CsvSource, ".parquet": ParquetSource}


def ending(path: str | os.PathLike) -> str:
    """The ending of a file's name, in small letters, without `.gz`."""
    return pathlib.Path(pathlib.Path(path).name.lower().removesuffix(".gz")).suffix


def table_of(path: str | os.PathLike) -> type[_TableSource]:
    """The source of a file's kind, by its ending.

    Raises:
      UserError: for another ending, and for a Git LFS pointer.
    """
    kind = TABLES.get(ending(path))
    if kind is None:
        raise UserError(f"{path}: expected a file that ends in {', '.join(sorted(TABLES))}")
    if os.path.isfile(path):
        files.refuse_lfs_pointer(path)
    return kind
