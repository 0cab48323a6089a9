"""Where examples come from: the reference code's file layout, JSONL, Parquet, or a generator.

A source streams `Example`s split by split and has a fingerprint, so that what was prepared from it
can be reused until it changes.
"""

import csv
import dataclasses
import functools
import hashlib
import inspect
import itertools
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from distill_jax.data.completions import Completion
from distill_jax.data.schema import Example
from distill_jax.errors import UserError


class Source(Protocol):
    """What the registry asks of a source."""

    splits: Sequence[str]

    def examples(self, split: str) -> Iterator[Example]:
        """Streams the examples of a split, in the order of the source."""
        ...

    def fingerprint(self, split: str) -> str:
        """Changes when `examples(split)` would."""
        ...

    def where(self, split: str, number: int) -> str:
        """Names example `number` (from 0) of a split as a user finds it, `FILE, line N`."""
        ...


def data_dir() -> pathlib.Path:
    """The folder of the data sets: `DISTILL_JAX_DATA_DIR`.

    Raises:
      UserError: when it is not set, or no folder.
    """
    value = os.environ.get("DISTILL_JAX_DATA_DIR")
    if not value:
        raise UserError(
            "this task reads files: say where with --data-dir DIR, --gin.DATA_DIR=DIR or DISTILL_JAX_DATA_DIR"
        )
    if not pathlib.Path(value).is_dir():
        raise UserError(f"data directory {value}: no such folder")
    return pathlib.Path(value)


def held_out(rows: int, share: float = 0.1) -> set[int]:
    """Row numbers that the reference code holds out for validation (seed 0).

    The same rows as `datasets.Dataset.train_test_split(test_size=share, seed=0)["test"]`.
    """
    permutation = np.random.default_rng(0).permutation(rows)
    return set(permutation[: math.ceil(rows * share)].tolist())


def read_jsonl(path: pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (line number from 1, object) of each line that is not blank.

    Raises:
      UserError: for a missing file, and for a line that is not a JSON object.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _json_object(path, number, line)
    except (UnicodeDecodeError, OSError) as error:
        raise _unreadable(path, error) from None


def _json_object(path: pathlib.Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        hint = "" if line.endswith("\n") else "; the file may be cut short"
        what = _json_problem(error)
        raise UserError(f"{path}, line {number}: invalid JSON ({what}){hint}") from None
    if not isinstance(row, dict):
        raise UserError(f"{path}, line {number}: expected a JSON object, got {row!r:.40}")
    return row


def _json_problem(error: Exception) -> str:
    """What is wrong; the decoder's own text counts lines of its argument, not of the file."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, column {error.colno}"
    return str(error)


def _unreadable(path: pathlib.Path, error: Exception) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path}: no such file")
    if isinstance(error, UnicodeDecodeError):
        return UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})")
    return UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")


def _fingerprint(*parts: str | pathlib.Path) -> str:
    """Hash of strings and of files' contents."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            digest.update(part.encode() + b"\0")
            continue
        try:
            with part.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise _unreadable(part, error) from None
    return digest.hexdigest()[:16]


def _code_of(function: Callable) -> str:
    """Name of a function and text of its module, so that an edit changes the fingerprint."""
    if isinstance(function, functools.partial):
        return f"{function.args} {function.keywords} {_code_of(function.func)}"
    name = f"{function.__module__}.{function.__qualname__}"
    try:
        return name + inspect.getsource(inspect.getmodule(function) or function)
    except (OSError, TypeError):  # no file: made in a console
        return name + function.__code__.co_code.hex()


def _text(where: str, row: Mapping[str, Any], column: str) -> str:
    """The non-empty text in a column.

    Raises:
      UserError: when it is absent, empty, no text, or half a surrogate pair, which has no UTF-8.
    """
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        got = f"got {value!r:.40}" if column in row else f"there are {', '.join(row) or 'none'}"
        raise UserError(f"{where}: expected text in {column!r}, {got}")
    return _encodable(where, value)


def _encodable(where: str, value: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{where}: text with an unpaired surrogate: {error.reason}") from None
    return value


class ReferenceSource:
    """The layout of the paper's release: rows in JSON lines, completions in numbered chunks.

    `<data_dir>/<name>/<name>_<split>.json` holds an object a line,
    `<data_dir>/<name>/<teacher>/<split>_CoT_<k>.json` a list of raw completions, together in row
    order; the teacher's folder is `llm`, or what DISTILL_JAX_TEACHER says. A set without validation
    file has 10% of train held out, as the reference code does.

    Args:
      name: of the folder and in the file names.
      read_row: (row) -> (input, label), or (input, label, choices); raises KeyError for a column that
        is not there, and ValueError or TypeError for one it cannot read.
      parse_completion: see `data.completions`.
      has_validation: whether there is a `<name>_valid.json`.
    """

    splits = ("train", "validation", "test")

    def __init__(
        self,
        name: str,
        read_row: Callable[[Mapping[str, Any]], tuple],
        parse_completion: Callable[[str], Completion],
        has_validation: bool = False,
    ):
        self.name = name
        self.has_validation = has_validation
        self._read_row = read_row
        self._parse = parse_completion

    def _rows_file(self, split: str) -> pathlib.Path:
        stem = "valid" if self.has_validation else "train"
        stem = stem if split == "validation" else split
        return data_dir() / self.name / f"{self.name}_{stem}.json"

    def stem(self, split: str) -> str:
        """What the names of a split's files of completions begin with: train, valid or test."""
        return self._rows_file(split).stem.removeprefix(f"{self.name}_")

    def _chunks(self, split: str) -> list[pathlib.Path]:
        """Files of completions: those there are, and the first that is missing between them.

        Raises:
          UserError: when one is missing.
        """
        rows_file = self._rows_file(split)
        stem = self.stem(split)
        folder = rows_file.parent / (os.environ.get("DISTILL_JAX_TEACHER") or "llm")
        there = set(folder.glob(f"{stem}_CoT_*.json"))
        chunks = []
        for k in itertools.count():
            path = folder / f"{stem}_CoT_{k}.json"
            if path not in there:
                break
            chunks.append(path)
        if not chunks or len(chunks) < len(there):
            raise UserError(
                f"{path}: no such file: expected the teacher's completions of {rows_file.name} in "
                f"{stem}_CoT_0.json, {stem}_CoT_1.json and so on"
            )
        return chunks

    def _completions(self, chunks: list[pathlib.Path], sizes: list[int]) -> Iterator[str]:
        """Streams the completions; `sizes` gets the number in each file."""
        for path in chunks:
            try:
                completions = json.loads(path.read_text(encoding="utf-8-sig"))
            except (UnicodeDecodeError, OSError) as error:
                raise _unreadable(path, error) from None
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}: invalid JSON ({error}); the file may be cut short") from None
            if not isinstance(completions, list):
                raise UserError(f"{path}: expected a list of completions")
            sizes.append(len(completions))
            for number, completion in enumerate(completions, 1):
                where = f"{path}, entry {number}"
                if not isinstance(completion, str):
                    raise UserError(f"{where}: expected text, got {completion!r:.40}")
                yield _encodable(where, completion)

    def _read(self, where: str, row: Mapping[str, Any]) -> tuple[str, str, tuple[str, ...] | None]:
        try:
            text, label, *choices = self._read_row(row)
        except KeyError as error:
            columns = ", ".join(row) or "none"
            raise UserError(f"{where}: no {error} in this row, there are {columns}") from None
        except (TypeError, ValueError) as error:
            raise UserError(f"{where}: unusable row: {error}") from None
        texts = {"input": text, "label": label}
        return _text(where, texts, "input"), _text(where, texts, "label"), choices[0] if choices else None

    def rows(self, split: str) -> Iterator[Example]:
        """All rows of a split's file, without the teacher's completions, which need not be there."""
        return (example for _, example in self._numbered_rows(split))

    def _numbered_rows(self, split: str) -> Iterator[tuple[int, Example]]:
        path = self._rows_file(split)
        for index, (line, row) in enumerate(read_jsonl(path)):
            text, label, choices = self._read(f"{path}, line {line}", row)
            yield line, Example(f"{path.stem}-{index}", text, label, choices=choices)

    def completions(self, split: str) -> Iterator[tuple[str, str, str]]:
        """(row id, name of the file, raw completion) of all rows of a split's file."""
        return ((example.id, chunk, completion) for example, chunk, completion in self._pairs(split))

    def file_examples(self, split: str) -> Iterator[Example]:
        """All rows of a split's file: of train, those held out for validation too."""
        for example, _, completion in self._pairs(split):
            label, rationale = self._parse(completion)
            yield dataclasses.replace(example, teacher_label=label, rationale=rationale)

    def _pairs(self, split: str) -> Iterator[tuple[Example, str, str]]:
        """(row, name of the completion's file, completion), of as many rows as completions."""
        path, chunks, sizes = self._rows_file(split), self._chunks(split), []
        completions = self._completions(chunks, sizes)

        def counted() -> str:
            listed = zip(chunks, sizes, strict=False)
            return ", ".join(f"{size} in {chunk.name}" for chunk, size in listed)

        line = index = -1
        for index, (line, example) in enumerate(self._numbered_rows(split)):
            completion = next(completions, None)
            if completion is None:
                raise UserError(
                    f"{path}, line {line}: fewer completions than rows: none for this row {index + 1}; "
                    f"{chunks[0].parent} has {counted()}"
                )
            yield example, chunks[len(sizes) - 1].name, completion
        left = sum(1 for _ in completions)
        if left:
            raise UserError(
                f"{path}: fewer rows than completions: {index + 1} rows, {left} completions more; "
                f"{chunks[0].parent} has {counted()}; the file may be cut short after line {line}"
            )
        if index < 0:
            raise UserError(f"{path}: no rows in this file")

    def examples(self, split: str) -> Iterator[Example]:
        """Streams a split; see `Source`."""
        if self.has_validation or split == "test":
            yield from self.file_examples(split)
            return
        rows = sum(1 for _ in read_jsonl(self._rows_file("train")))
        validation = held_out(rows)
        for index, example in enumerate(self.file_examples("train")):
            if (index in validation) == (split == "validation"):
                yield example

    def fingerprint(self, split: str) -> str:
        """Hash of the split's files and of the code that reads them; see `Source`."""
        code = (_code_of(self._read_row), _code_of(self._parse))
        return _fingerprint(split, *code, self._rows_file(split), *self._chunks(split))

    def where(self, split: str, number: int) -> str:
        """See `Source`."""
        example = next(itertools.islice(self.examples(split), number, None))
        index = int(example.id.rpartition("-")[2])
        line, _ = next(itertools.islice(read_jsonl(self._rows_file(split)), index, None))
        return f"{self._rows_file(split)}, line {line}"


COLUMNS = ("id", "input", "label", "teacher_label", "rationale", "label_probs", "choices")


class _TableSource:
    """Files of rows, one or more a split, with columns mapped to the fields of `Example`.

    Args:
      paths: split -> files.
      columns: field of `Example` -> column of the file, where the names differ.
      unlabelled: rows may have neither label nor rationale: a teacher is to give them.
    """

    unit = "row"

    def __init__(
        self,
        paths: Mapping[str, Sequence[str | os.PathLike]],
        columns: Mapping[str, str] | None = None,
        unlabelled: bool = False,
    ):
        unknown = set(columns or {}) - set(COLUMNS)
        if unknown:
            raise UserError(f"unknown field {min(unknown)!r}: expected one of {', '.join(COLUMNS)}")
        self._paths = {split: [pathlib.Path(p) for p in files] for split, files in paths.items()}
        self._columns = {field: field for field in COLUMNS} | dict(columns or {})
        self._unlabelled = unlabelled
        self.splits = tuple(self._paths)

    def _rows(self, path: pathlib.Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
        raise NotImplementedError

    def _optional(self, where: str, row: Mapping[str, Any], field: str) -> str | None:
        """Text or number of a column; None where it is null, blank or not there."""
        value = row.get(self._columns[field])
        if value is None or value != value:  # NaN is how pandas writes a missing value
            return None
        if not isinstance(value, str | int | float):
            column = self._columns[field]
            raise UserError(f"{where}: expected text in {column!r}, got {value!r:.40}")
        return _encodable(where, str(value)) if str(value).strip() else None

    def _probabilities(self, where: str, row: Mapping[str, Any]) -> tuple[float, ...] | None:
        value = row.get(self._columns["label_probs"])
        if value is None or value == "":
            return None
        try:
            numbers = json.loads(value) if isinstance(value, str) else value
            probabilities = tuple(float(p) for p in numbers)
        except (TypeError, ValueError, RecursionError):
            probabilities = ()
        if not probabilities or not all(0.0 <= p <= 1.0 for p in probabilities):
            column = self._columns["label_probs"]
            raise UserError(f"{where}: expected a list of probabilities in {column!r}, got {value!r:.40}")
        return probabilities

    def _choices(self, where: str, row: Mapping[str, Any]) -> tuple[str, ...] | None:
        value = row.get(self._columns["choices"])
        if value is None or value == "":
            return None
        try:
            choices = json.loads(value) if isinstance(value, str) else value
        except (ValueError, RecursionError):
            choices = None
        if not isinstance(choices, list) or not all(isinstance(c, str) and c.strip() for c in choices):
            column = self._columns["choices"]
            raise UserError(f"{where}: expected a list of texts in {column!r}, got {value!r:.40}")
        return tuple(_encodable(where, choice) for choice in dict.fromkeys(choices))

    def _example(self, where: str, default_id: str, row: Mapping[str, Any]) -> Example:
        columns = self._columns
        text = _text(where, row, columns["input"])
        targets = ("label", "teacher_label", "rationale")
        fields = {field: self._optional(where, row, field) for field in targets}
        if not self._unlabelled and all(value is None for value in fields.values()):
            expected = ", ".join(repr(columns[field]) for field in targets)
            raise UserError(f"{where}: no label and no rationale: expected one of {expected}")
        name = self._optional(where, row, "id") or default_id
        probs, choices = self._probabilities(where, row), self._choices(where, row)
        return Example(name, text, **fields, label_probs=probs, choices=choices)

    def _numbered(self, split: str) -> Iterator[tuple[pathlib.Path, int, Mapping[str, Any]]]:
        for path in self._paths[split]:
            for number, row in self._rows(path):
                yield path, number, row

    def examples(self, split: str) -> Iterator[Example]:
        """Streams a split; see `Source`."""
        for path, number, row in self._numbered(split):
            yield self._example(f"{path}, {self.unit} {number}", f"{path.stem}-{number}", row)

    def fingerprint(self, split: str) -> str:
        """Hash of the split's files and the mapping of columns; see `Source`."""
        return _fingerprint(json.dumps(self._columns, sort_keys=True), *self._paths[split])

    def where(self, split: str, number: int) -> str:
        """See `Source`."""
        path, row, _ = next(itertools.islice(self._numbered(split), number, None))
        return f"{path}, {self.unit} {row}"


class JsonlSource(_TableSource):
    """JSON lines; see `_TableSource` for the arguments."""

    unit = "line"

    def _rows(self, path):
        return read_jsonl(path)


class CsvSource(_TableSource):
    """CSV files with a header; `label_probs` is a JSON list. See `_TableSource` for the arguments."""

    def _rows(self, path):
        csv.field_size_limit(1 << 30)
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file, strict=True)
                for number, row in enumerate(reader, 1):
                    if None in row or None in row.values():
                        expected = len(reader.fieldnames)
                        raise UserError(f"{path}, row {number}: expected the {expected} columns of the header")
                    yield number, row
        except csv.Error as error:
            raise UserError(f"{path}, line {reader.line_num}: invalid CSV ({error})") from None
        except (UnicodeDecodeError, OSError) as error:
            raise _unreadable(path, error) from None


class ParquetSource(_TableSource):
    """Parquet files, read a batch of rows at a time; see `_TableSource` for the arguments."""

    def _rows(self, path):
        import pyarrow
        import pyarrow.parquet

        if not path.exists():
            raise UserError(f"{path}: no such file")
        try:
            number = 0
            for batch in pyarrow.parquet.ParquetFile(path).iter_batches(1024):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
        except (pyarrow.ArrowException, OSError) as error:
            what = " ".join(str(error).split())
            raise UserError(f"{path}: not a whole Parquet file: {what}") from None


class GeneratedSource:
    """Examples made by a function, the same ones for the same parameters.

    Args:
      generate: (rng, id) -> Example; all its randomness comes from `rng`.
      sizes: split -> number of examples. Splits draw from one stream without repeated inputs, so
        they are disjoint.
      seed: of the stream.
    """

    def __init__(
        self,
        generate: Callable[[np.random.Generator, str], Example],
        sizes: Mapping[str, int],
        seed: int = 0,
    ):
        self._generate = generate
        self._sizes = dict(sizes)
        self._seed = seed
        self.splits = tuple(sizes)

    def examples(self, split: str) -> Iterator[Example]:
        """Streams a split; see `Source`.

        Raises:
          UserError: when `generate` runs out of new inputs.
        """
        rng = np.random.default_rng(self._seed)
        seen: set[str] = set()
        repeats = 0
        for name, size in self._sizes.items():
            made = 0
            while made < size:
                example = self._generate(rng, f"{name}-{made}")
                if example.input in seen:
                    repeats += 1
                    if repeats > 100 * (made + 100):
                        raise UserError(f"cannot generate {size} different examples for {name}")
                    continue
                seen.add(example.input)
                made += 1
                if name == split:
                    yield example
            if name == split:
                return

    def fingerprint(self, split: str) -> str:
        """Hash of the generator's module and parameters; see `Source`."""
        return _fingerprint(_code_of(self._generate), json.dumps([self._seed, self._sizes, split]))

    def where(self, split: str, number: int) -> str:
        """See `Source`."""
        return f"generated example {number} of {split}"
