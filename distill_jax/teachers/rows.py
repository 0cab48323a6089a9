"""The rows to annotate: a task's split or a file of your own, without the fields of an earlier teacher."""

import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from distill_jax import tasks
from distill_jax.data.schema import Example
from distill_jax.data.sources import HeldOutSource, ReferenceSource, read_jsonl, table_of
from distill_jax.data.sources.base import read_lines
from distill_jax.data.sources.tables import TABLES
from distill_jax.errors import UserError
from distill_jax.scoring.metrics import is_same_text
from distill_jax.tasks import registry


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows and what is known of their labels.

    Attributes:
      name: of the task, or of the file.
      prompt: name of the shipped prompt that fits.
      examples: starts the stream from the first row.
      classes: the possible labels, where they are few.
      same: whether two labels are the same answer.
      source: of the task or file.
      split: of the source.
    """

    name: str
    prompt: str
    examples: Callable[[], Iterator[Example]]
    classes: tuple[str, ...] | None
    same: Callable[[str, str], bool]
    source: object
    split: str

    def options(self, example: Example) -> Sequence[str] | None:
        """The labels that a row can have."""
        return example.choices or self.classes


def task_or_file(
    name: str,
    split: str = "train",
    *,
    columns: Mapping[str, str] | None = None,
    classes: Sequence[str] | None = None,
    module: str | None = None,
    data_dir: str | None = None,
) -> Rows:
    """Rows of a registered task, or of a JSONL, CSV or Parquet file.

    Of a task in the reference layout, all rows of the split's file are read, also those held out for
    validation: a file of completions belongs to a file of rows.

    Args:
      name: of the task, or the file's path.
      split: of the task.
      columns: of a file, see `sources.Columns`.
      classes: of a file, the labels there are.
      module: Python module that registers the task.
      data_dir: folder of the data sets, where the task reads files.

    Raises:
      UserError: for an unknown task, split or kind of file, and for columns or classes of a task.
    """
    if pathlib.Path(name).suffix.lower() in TABLES:
        source = table_of(name)({split: [name]}, columns, needs_target=False)
        known = tuple(classes) if classes else None
        return Rows(
            name, "default", _without_teacher(source.examples, split), known, is_same_text, source, split
        )
    if columns or classes:
        raise UserError(f"columns and classes are of files; {name} is a task, which has its own")
    task = registry.get_task(name, module, data_dir)
    source = task.source.source if isinstance(task.source, HeldOutSource) else task.source
    if split not in source.splits:
        raise UserError(f"{name} has no split {split!r}: {', '.join(source.splits)}")
    stream = source.rows if isinstance(source, ReferenceSource) else source.examples

    def same(one: str, other: str) -> bool:
        return one == other or task.agrees(Example("", "", label=one, teacher_label=other))

    prompt = name if name in tasks.MODULES else "default"
    return Rows(name, prompt, _without_teacher(stream, split), task.classes, same, source, split)


def _without_teacher(stream: Callable[[str], Iterator[Example]], split: str) -> Callable[[], Iterator[Example]]:
    def examples() -> Iterator[Example]:
        for example in stream(split):
            yield dataclasses.replace(example, teacher_label=None, rationale=None, label_probs=None)

    return examples


def chosen(
    examples: Callable[[], Iterator[Example]], ids: Collection[str] | None = None, limit: int | None = None
) -> Iterator[Example]:
    """The first `limit` rows, or the rows of those ids.

    Raises:
      UserError: at the end, when an id is of no row.
    """
    if ids is None:
        yield from itertools.islice(examples(), limit)
        return
    wanted = set(ids)
    for example in itertools.islice((e for e in examples() if e.id in ids), limit):
        wanted.discard(example.id)
        yield example
    if wanted and limit is None:
        raise UserError(f"{len(wanted)} of the row ids are of no row, such as {min(wanted)!r}")


def read_ids(path: str) -> set[str]:
    """Row ids: one a line, or the `id` of JSON lines.

    Raises:
      UserError: for a file that cannot be read, or has no ids.
    """
    file = pathlib.Path(path)
    if file.suffix.lower() in (".jsonl", ".json"):
        rows = list(read_jsonl(file))
        without = next((number for number, row in rows if "id" not in row), None)
        if without is not None:
            raise UserError(f"{file}, line {without}: no 'id'")
        ids = {str(row["id"]) for _, row in rows}
    else:
        ids = {line.strip(" \t\r\n") for _, line in read_lines(file)}
    if not ids:
        raise UserError(f"{file}: no row ids in this file")
    return ids
