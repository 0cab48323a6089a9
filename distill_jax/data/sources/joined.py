"""A teacher's labels and rationales from one file, joined by id to the examples of another source."""

import copy
import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from distill_jax.data.completions import Completion
from distill_jax.data.schema import Example
from distill_jax.data.sources.base import Source, code_of, fingerprint_of, located
from distill_jax.data.sources.columns import Columns
from distill_jax.data.sources.tables import table_of
from distill_jax.errors import UserError


class JoinedSource:
    """Examples of `source`, with what a teacher said of them.

    The file at `path` (JSONL, CSV or Parquet) has an `id` and `teacher_label`, `rationale` or `label_probs`, or
    a raw `completion` to parse. One file serves all splits, and is held in memory while a split is streamed. An
    example it does not know is left as it is. Where rows with different inputs share an id (two files that both
    count from 1), an answer goes to the row with its `input`, as `annotate` writes it; one without goes to the
    first of these rows: those of train come first. `columns` are those of the file by field, where they differ.
    """

    def __init__(
        self,
        source: Source,
        path: str,
        columns: Mapping[str, str] | None = None,
        parse_completion: Callable[[str], Completion] | None = None,
        classes: Sequence[str] | None = None,
    ):
        self._source, self._path, self._parse = source, pathlib.Path(path), parse_completion
        self._table = table_of(path)({"all": [path]}, columns)
        self._columns = Columns(columns, classes=classes)

    def located(self, data_dir=None, teacher=None) -> "JoinedSource":
        source = copy.copy(self)
        source._source = located(self._source, data_dir, teacher)
        return source

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._source.splits)

    def _fields(self, where: str, row: Mapping[str, Any]) -> dict[str, Any]:
        fields = {name: v for name, v in self._columns.targets(where, row).items() if v is not None}
        completion = row.get("completion")
        if self._parse is not None and isinstance(completion, str):
            parsed = self._parse(completion)
            fields = {"teacher_label": parsed.label, "rationale": parsed.rationale} | fields
        fields.pop("label", None)  # the reference label is the source's
        if not fields:
            raise UserError(f"{where}: no teacher_label, rationale or label_probs in this row")
        return fields

    def _answers(self) -> dict[str, dict[str | None, dict[str, Any]]]:
        """id -> `input` of the row, None where it has none -> the teacher's fields.

        Raises UserError for a row without id or fields, or when both come twice.
        """
        answers: dict[str, dict[str | None, dict[str, Any]]] = {}
        for path, number, row in self._table.rows("all"):
            where = f"{path}, {self._table.unit} {number}"
            name = self._columns.identity(where, row)
            if name is None:
                raise UserError(f"{where}: no id in this row: the teacher's answers are joined by it")
            of_id, text = answers.setdefault(name, {}), row.get(self._columns.columns["input"])
            text = text if isinstance(text, str) else None
            if of_id and (text is None or None in of_id or text in of_id):
                raise UserError(f"{where}: the id {name!r} was there before: keep one row for each id")
            of_id[text] = self._fields(where, row)
        return answers

    def _shared(self, answers: Mapping[str, Any]) -> dict[str, str]:
        """The ids that rows with different inputs share -> the input of the first of these rows."""
        first: dict[str, str] = {}
        shared = set()
        splits = sorted(self.splits, key=lambda split: split != "train")
        for example in itertools.chain.from_iterable(map(self._source.examples, splits)):
            if example.id in answers and first.setdefault(example.id, example.input) != example.input:
                shared.add(example.id)
        return {name: first[name] for name in shared}

    def examples(self, split: str) -> Iterator[Example]:
        """Streams a split.

        Raises:
          UserError: when no id of the train split is in the file; other splits may do without a teacher.
        """
        answers, shared, missed, joined = self._answers(), None, None, 0
        for example in self._source.examples(split):
            of_id = answers.get(example.id, {})
            fields = of_id.get(example.input)
            if fields is None and of_id:
                if shared is None:  # all splits are read for it: only where inputs do not tell
                    shared = self._shared(answers)
                if len(of_id) == 1 and example.id not in shared:
                    [fields] = of_id.values()
                elif shared.get(example.id) == example.input:
                    fields = of_id.get(None)
            if fields is None:
                missed = example.id
                yield example
            else:
                joined += 1
                yield dataclasses.replace(example, **fields)
        if missed is not None and not joined and split == "train":
            raise UserError(
                f"{self._path}: none of its {len(answers)} ids is in {split}, whose ids are such as {missed!r}"
            )

    def size(self, split: str) -> int:
        return self._source.size(split)

    def fingerprint(self, split: str) -> str:
        parser = code_of(self._parse) if self._parse else ""
        # Which row an answer goes to depends on the ids of all splits.
        rows = map(self._source.fingerprint, (split, *self.splits))
        return fingerprint_of(*rows, parser, self._columns.key, self._path)

    def where(self, split: str, number: int) -> str:
        return self._source.where(split, number)
