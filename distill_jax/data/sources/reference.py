"""The layout of the paper's release: rows in JSON lines, raw completions of a teacher in numbered chunks."""

import copy
import dataclasses
import itertools
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from distill_jax.config.options import nearest
from distill_jax.data.completions import Completion
from distill_jax.data.schema import Example
from distill_jax.data.sources.base import (
    code_of,
    data_folder,
    encodable,
    fingerprint_of,
    read_jsonl,
    read_lines,
    text_of,
)
from distill_jax.errors import UserError
from distill_jax.files import unreadable


class ReferenceSource:
    """The layout of the paper's release: rows in JSON lines, completions in numbered chunks.

    `<data_dir>/<name>/<name>_<split>.json` holds an object a line,
    `<data_dir>/<name>/<teacher>/<split>_CoT_<k>.json` a list of raw completions, together in row order.

    Args:
      read_row: (row) -> (input, label), or (input, label, choices); raises KeyError for a column that
        is not there, and ValueError or TypeError for one it cannot read.
      has_validation: whether there is a `<name>_valid.json`; `HeldOutSource` is for sets that have none.
      data_dir: folder of the data sets; default DISTILL_JAX_DATA_DIR, read when it is needed.
      teacher: folder of the completions, `none` for rows alone; default DISTILL_JAX_TEACHER, or `llm`.
    """

    def __init__(
        self,
        name: str,
        read_row: Callable[[Mapping[str, Any]], tuple],
        parse_completion: Callable[[str], Completion],
        has_validation: bool = False,
        data_dir: str | os.PathLike | None = None,
        teacher: str | None = None,
    ):
        self.name = name
        self.splits = ("train", "validation", "test") if has_validation else ("train", "test")
        self._read_row = read_row
        self._parse = parse_completion
        self._data_dir, self._teacher_name = data_dir, teacher

    def located(self, data_dir: str | None = None, teacher: str | None = None) -> "ReferenceSource":
        source = copy.copy(self)
        source._data_dir = data_dir or self._data_dir
        source._teacher_name = teacher or self._teacher_name
        return source

    def _teacher(self) -> str:
        return self._teacher_name or os.environ.get("DISTILL_JAX_TEACHER") or "llm"

    def stem(self, split: str) -> str:
        """What the names of a split's files of completions begin with: train, valid or test."""
        return "valid" if split == "validation" else split

    def _rows_file(self, split: str) -> pathlib.Path:
        return data_folder(self._data_dir) / self.name / f"{self.name}_{self.stem(split)}.json"

    def _chunks(self, split: str) -> list[pathlib.Path]:
        """Files of completions; a UserError when one is missing."""
        teacher = self._teacher()
        if teacher == "none":
            return []  # a fingerprint's; there is nothing to read
        rows_file, stem = self._rows_file(split), self.stem(split)
        folder = rows_file.parent / teacher
        existing, chunks = set(folder.glob(f"{stem}_CoT_*.json")), []
        while (path := folder / f"{stem}_CoT_{len(chunks)}.json") in existing:
            chunks.append(path)
        if not chunks or len(chunks) < len(existing):
            others = sorted(each.name for each in rows_file.parent.glob("*") if any(each.glob("*_CoT_0.json")))
            hint = f"; --teacher {teacher}: {nearest(teacher, others)}" if others and not existing else ""
            raise UserError(
                f"{path}: no such file: expected the teacher's completions of {rows_file.name} in "
                f"{stem}_CoT_0.json, {stem}_CoT_1.json and so on (--teacher none does without){hint}"
            )
        return chunks

    def _completions(self, chunks: list[pathlib.Path], sizes: list[int]) -> Iterator[str]:
        """Streams the completions; `sizes` gets the number in each file."""
        for path in chunks:
            try:
                completions = json.loads(path.read_text(encoding="utf-8-sig"))
            except (UnicodeDecodeError, OSError) as error:
                raise unreadable(path, error) from None
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}: invalid JSON ({error}); the file may be cut short") from None
            if not isinstance(completions, list):
                raise UserError(f"{path}: expected a list of completions")
            sizes.append(len(completions))
            for number, completion in enumerate(completions, 1):
                where = f"{path}, entry {number}"
                if not isinstance(completion, str):
                    raise UserError(f"{where}: expected text, got {completion!r:.40}")
                yield encodable(where, completion)

    def _read(self, where: str, row: Mapping[str, Any]) -> tuple[str, str, tuple[str, ...] | None]:
        try:
            text, label, *choices = self._read_row(row)
        except KeyError as error:
            columns = ", ".join(row) or "none"
            raise UserError(f"{where}: no {error} in this row, there are {columns}") from None
        except (TypeError, ValueError) as error:
            raise UserError(f"{where}: unusable row: {error}") from None
        texts = {"input": text, "label": label}
        return text_of(where, texts, "input"), text_of(where, texts, "label"), choices[0] if choices else None

    def rows(self, split: str) -> Iterator[Example]:
        """All rows of a split, without the teacher's completions, which need not be there."""
        return (example for _, example in self._numbered_rows(split))

    def _numbered_rows(self, split: str) -> Iterator[tuple[int, Example]]:
        path, index = self._rows_file(split), -1
        for index, (line, row) in enumerate(read_jsonl(path)):
            text, label, choices = self._read(f"{path}, line {line}", row)
            yield line, Example(f"{path.stem}-{index}", text, label, choices=choices)
        if index < 0:
            raise UserError(f"{path}: no rows in this file")

    def completions(self, split: str) -> Iterator[tuple[str, str, str]]:
        """(row id, name of the file, raw completion) of all rows of a split."""
        return ((example.id, chunk, completion) for example, chunk, completion in self._pairs(split))

    def examples(self, split: str) -> Iterator[Example]:
        if self._teacher() == "none":
            yield from self.rows(split)
            return
        for example, _, completion in self._pairs(split):
            label, rationale = self._parse(completion)
            yield dataclasses.replace(example, teacher_label=label, rationale=rationale)

    def _pairs(self, split: str) -> Iterator[tuple[Example, str, str]]:
        """(row, name of the completion's file, completion), of as many rows as completions."""
        path, chunks, sizes = self._rows_file(split), self._chunks(split), []
        completions = self._completions(chunks, sizes)

        def counted() -> str:
            return ", ".join(f"{size} in {chunk.name}" for chunk, size in zip(chunks, sizes, strict=False))

        line = rows = 0
        for line, example in self._numbered_rows(split):
            completion = next(completions, None)
            if completion is None:
                raise UserError(
                    f"{path}, line {line}: fewer completions than rows: none for this row {rows + 1}; "
                    f"{chunks[0].parent} has {counted()}"
                )
            rows += 1
            yield example, chunks[len(sizes) - 1].name, completion
        if left := sum(1 for _ in completions):
            raise UserError(
                f"{path}: fewer rows than completions: {rows} rows, {left} completions more; "
                f"{chunks[0].parent} has {counted()}; the file may be cut short after line {line}"
            )

    def size(self, split: str) -> int:
        return sum(1 for _ in read_lines(self._rows_file(split)))

    def fingerprint(self, split: str) -> str:
        """Hash of the split's files and of the code that reads them."""
        code = (self._teacher(), code_of(self._read_row), code_of(self._parse))
        return fingerprint_of(split, *code, self._rows_file(split), *self._chunks(split))

    def where(self, split: str, number: int) -> str:
        path = self._rows_file(split)
        line, _ = next(itertools.islice(read_jsonl(path), number, None))
        return f"{path}, line {line}"
