"""Where examples come from: the reference code's file layout, JSONL, Parquet, or a generator.

A source streams `Example`s split by split and has a fingerprint, so that what was prepared from it can be
reused until it changes.
"""

import hashlib
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


def data_dir() -> pathlib.Path:
    """The folder of the data sets: `DISTILL_JAX_DATA_DIR`.

    Raises:
      UserError: when it is not set, or no folder.
    """
    value = os.environ.get("DISTILL_JAX_DATA_DIR")
    if not value:
        raise UserError(
            "this task reads files: say where with --data-dir DIR, --gin.DATA_DIR=DIR or "
            "DISTILL_JAX_DATA_DIR"
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
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    hint = "" if line.endswith("\n") else ": the file may be cut short"
                    raise UserError(f"{path}, line {number}: invalid JSON ({error}){hint}") from None
                if not isinstance(row, dict):
                    raise UserError(f"{path}, line {number}: expected a JSON object, got {row!r:.40}")
                yield number, row
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text: {error}") from error


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
            raise UserError(f"{part}: {error.strerror or error}") from error
    return digest.hexdigest()[:16]


def _text(where: str, row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where}: expected text in {column!r}, got {value!r:.40}")
    return value


class ReferenceSource:
    """The layout of the paper's release: rows in JSON lines, completions in numbered chunks beside them.

    `<data_dir>/<name>/<name>_<split>.json` holds an object a line,
    `<data_dir>/<name>/llm/<split>_CoT_<k>.json` a list of raw completions, together in row order. A set without
    validation file has 10% of train held out, as the reference code does.

    Args:
      name: of the folder and in the file names.
      read_row: (row) -> (input, label); raises KeyError or TypeError for a row it cannot read.
      parse_completion: see `data.completions`.
      has_validation: whether there is a `<name>_valid.json`.
    """

    splits = ("train", "validation", "test")

    def __init__(
        self,
        name: str,
        read_row: Callable[[Mapping[str, Any]], tuple[str, str]],
        parse_completion: Callable[[str], Completion],
        has_validation: bool = False,
    ):
        self.name = name
        self._read_row = read_row
        self._parse = parse_completion
        self._has_validation = has_validation

    def _files(self, split: str) -> tuple[pathlib.Path, list[pathlib.Path]]:
        stem = split
        if split == "validation":
            stem = "valid" if self._has_validation else "train"
        folder = data_dir() / self.name
        chunks = []
        for k in itertools.count():
            path = folder / "llm" / f"{stem}_CoT_{k}.json"
            if not path.exists():
                break
            chunks.append(path)
        return folder / f"{self.name}_{stem}.json", chunks

    def _completions(self, chunks: list[pathlib.Path]) -> Iterator[tuple[pathlib.Path, Any]]:
        for path in chunks:
            try:
                completions = json.loads(path.read_text(encoding="utf-8"))
            except json.JSONDecodeError as error:
                raise UserError(f"{path}: invalid JSON, the file may be cut short: {error}") from None
            if not isinstance(completions, list):
                raise UserError(f"{path}: expected a list of completions")
            for row, completion in enumerate(completions):
                if not isinstance(completion, str):
                    raise UserError(f"{path}, entry {row}: expected text, got {completion!r:.40}")
                yield path, completion

    def file_examples(self, split: str) -> Iterator[Example]:
        """All rows of a split's file: of train, those held out for validation too."""
        path, chunks = self._files(split)
        if not chunks:
            raise UserError(f"{path.parent / 'llm'}: no completions {split}_CoT_0.json in there")
        completions = self._completions(chunks)
        number = 0
        for index, (number, row) in enumerate(read_jsonl(path)):
            where = f"{path}, line {number}"
            try:
                text, label = self._read_row(row)
            except (KeyError, TypeError, IndexError) as error:
                raise UserError(f"{where}: no usable {error} in this row") from None
            _text(where, {"input": text}, "input")
            _text(where, {"label": label}, "label")
            found = next(completions, None)
            if found is None:
                raise UserError(
                    f"{where}: fewer completions than rows: {index} in {chunks[0].parent} "
                    f"({len(chunks)} files), for this row there is none"
                )
            parsed = self._parse(found[1])
            stem = path.stem
            yield Example(f"{stem}-{index}", text, label, parsed.label, parsed.rationale)
        left = sum(1 for _ in completions)
        if left:
            raise UserError(
                f"{path}: {left} more completions than rows, the file may be cut short after line {number}"
            )

    def examples(self, split: str) -> Iterator[Example]:
        """Streams a split; see `Source`."""
        if self._has_validation or split == "test":
            yield from self.file_examples(split)
            return
        rows = sum(1 for _ in read_jsonl(self._files("train")[0]))
        validation = held_out(rows)
        for index, example in enumerate(self.file_examples("train")):
            if (index in validation) == (split == "validation"):
                yield example

    def fingerprint(self, split: str) -> str:
        """Hash of the split's files; see `Source`."""
        path, chunks = self._files(split)
        return _fingerprint(split, path, *chunks)


COLUMNS = ("id", "input", "label", "teacher_label", "rationale", "label_probs")


class _TableSource:
    """Files of rows, one or more a split, with columns mapped to the fields of `Example`.

    Args:
      paths: split -> files.
      columns: field of `Example` -> column of the file, where the names differ.
    """

    def __init__(
        self,
        paths: Mapping[str, Sequence[str | os.PathLike]],
        columns: Mapping[str, str] | None = None,
    ):
        unknown = set(columns or {}) - set(COLUMNS)
        if unknown:
            raise UserError(f"unknown field {min(unknown)!r}: expected one of {', '.join(COLUMNS)}")
        self._paths = {split: [pathlib.Path(p) for p in files] for split, files in paths.items()}
        self._columns = {field: field for field in COLUMNS} | dict(columns or {})
        self.splits = tuple(self._paths)

    def _rows(self, path: pathlib.Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
        raise NotImplementedError

    def _example(self, where: str, default_id: str, row: Mapping[str, Any]) -> Example:
        columns = self._columns
        text = _text(where, row, columns["input"])
        fields = {}
        for field in ("label", "teacher_label", "rationale"):
            value = row.get(columns[field])
            if value is None:
                continue
            if not isinstance(value, str | int | float):
                raise UserError(f"{where}: expected text in {columns[field]!r}, got {value!r:.40}")
            fields[field] = str(value)
        if not fields:
            raise UserError(
                f"{where}: no label, teacher_label or rationale (columns {columns['label']!r}, "
                f"{columns['teacher_label']!r}, {columns['rationale']!r})"
            )
        if row.get(columns["label_probs"]) is not None:
            fields["label_probs"] = tuple(float(p) for p in row[columns["label_probs"]])
        return Example(str(row.get(columns["id"], default_id)), text, **fields)

    def examples(self, split: str) -> Iterator[Example]:
        """Streams a split; see `Source`."""
        for path in self._paths[split]:
            for number, row in self._rows(path):
                yield self._example(f"{path}, row {number}", f"{path.stem}-{number}", row)

    def fingerprint(self, split: str) -> str:
        """Hash of the split's files and the mapping of columns; see `Source`."""
        return _fingerprint(json.dumps(self._columns, sort_keys=True), *self._paths[split])


class JsonlSource(_TableSource):
    """JSON lines; see `_TableSource` for the arguments."""

    def _rows(self, path):
        return read_jsonl(path)


class ParquetSource(_TableSource):
    """Parquet files, read a record batch at a time; see `_TableSource` for the arguments."""

    def _rows(self, path):
        import pyarrow
        import pyarrow.parquet

        if not path.exists():
            raise UserError(f"{path}: no such file")
        try:
            file = pyarrow.parquet.ParquetFile(path)
            number = 0
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise UserError(f"{path}: not a whole Parquet file: {error}") from error


class GeneratedSource:
    """Examples made by a function, the same ones for the same parameters.

    Args:
      generate: (rng, number of the example) -> Example; all its randomness comes from `rng`.
      sizes: split -> number of examples. Splits draw from one stream without repeated inputs, so
        they are disjoint.
      seed: of the stream.
      version: raise it when `generate` changes.
    """

    def __init__(
        self,
        generate: Callable[[np.random.Generator, str], Example],
        sizes: Mapping[str, int],
        seed: int = 0,
        version: int = 1,
    ):
        self._generate = generate
        self._sizes = dict(sizes)
        self._seed = seed
        self._version = version
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
        """Hash of the generator's name and parameters; see `Source`."""
        function = f"{self._generate.__module__}.{self._generate.__qualname__}"
        parameters = [function, self._version, self._seed, self._sizes, split]
        return _fingerprint(json.dumps(parameters))
