"""The rows to annotate: a task's split or a file of your own, without the fields of an earlier teacher."""

import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Collection, Iterator, Sequence

from distill_jax import tasks
from distill_jax.config import RowsOptions
from distill_jax.data.chat_forms import ChatForms, forms_of
from distill_jax.data.labels import class_names, same, spelled
from distill_jax.data.schema import Example
from distill_jax.data.sources import HeldOutSource, ReferenceSource, read_jsonl, table_of
from distill_jax.data.sources.base import read_lines
from distill_jax.data.sources.tables import TABLES
from distill_jax.errors import UserError
from distill_jax.tasks import registry


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows and what is known of their labels."""

    name: str  # of the task, or of the file
    prompt: str  # name of the shipped prompt that fits
    examples: Callable[[], Iterator[Example]]  # starts the stream from the first row
    classes: tuple[str, ...] | None  # the possible labels, where they are few
    same: Callable[[str, str], bool]  # whether two labels are the same answer
    source: object
    split: str
    chat: ChatForms | None = None  # how the rows were made of chats

    def options(self, example: Example) -> Sequence[str] | None:
        """The labels that a row can have."""
        return example.choices or self.classes


def rows_of(config: RowsOptions) -> Rows:
    """Rows of a registered task, or of a JSONL, CSV or Parquet file.

    Of a task in the reference layout, all rows of the split's file are read, also those held out for
    validation: a file of completions belongs to a file of rows.

    Raises:
      UserError: for an unknown task, split or kind of file, and for columns or classes of a task.
    """
    name, split = config.source, config.split
    if pathlib.Path(name).suffix.lower() in TABLES:
        classes = class_names(config.classes, config.classes_file)
        source = table_of(name)({split: [name]}, config.columns, needs_target=False, classes=classes)
        examples = _without_teacher(source.examples, split)
        return Rows(name, "default", examples, classes, same, source, split, forms_of(name))
    if config.columns or config.classes or config.classes_file:
        raise UserError(f"columns and classes are of files; {name} is a task, which has its own")
    task = registry.get_task(name, config.module, config.data_dir)
    source = task.source.source if isinstance(task.source, HeldOutSource) else task.source
    if split not in source.splits:
        raise UserError(f"{name} has no split {split!r}: {', '.join(source.splits)}")
    stream = source.rows if isinstance(source, ReferenceSource) else source.examples

    def agree(one: str, other: str) -> bool:
        return one == other or task.agrees(Example("", "", label=one, teacher_label=other))

    prompt = name if name in tasks.MODULES else "default"
    return Rows(name, prompt, _without_teacher(stream, split), task.classes, agree, source, split)


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
        ids = {spelled(row["id"]) for _, row in rows}
    else:
        ids = {spelled(line.strip(" \t\r\n")) for _, line in read_lines(file)}
    if not ids:
        raise UserError(f"{file}: no row ids in this file")
    return ids
