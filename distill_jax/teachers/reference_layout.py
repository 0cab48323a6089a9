"""The files of the paper's release, `llm/<split>_CoT_<k>.json`, into the store and back, byte for byte."""

import json
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from distill_jax import files
from distill_jax.data.schema import Example
from distill_jax.data.sources import ReferenceSource
from distill_jax.errors import UserError
from distill_jax.teachers.figures import Lines
from distill_jax.teachers.rows import Rows
from distill_jax.teachers.store import Key, Store

_LINES_AT_ONCE = 1000  # appended to the store together
DEFAULT_CHUNK = 1000  # completions in a file


def reference_source(rows: Rows) -> ReferenceSource:
    """The source of rows in the reference layout.

    Raises:
      UserError: when they are not.
    """
    if not isinstance(rows.source, ReferenceSource):
        raise UserError(f"{rows.name} has no files in the layout of the paper's release")
    return rows.source


def import_completions(rows: Rows, store: Store, model: str, parser: str) -> tuple[int, int]:
    """Appends the completions of a split's files; (completions added, completions the store had).

    Args:
      rows: a task in the reference layout.
      store: to add to.
      model: name of the teacher in the store.
      parser: of the completions, see `parsing.parser`.

    Raises:
      UserError: when files are missing or do not have as many completions as there are rows.
    """
    source, added, present, waiting = reference_source(rows), 0, 0, []
    for row_id, file, text in source.completions(rows.split):
        key = Key(row_id, "", model, {})
        if not store.missing(key, 1):
            present += 1
            continue
        line: dict[str, Any] = {"id": row_id, "sample": 0, "prompt": "", "model": model, "sampling": {}}
        line |= {"text": text, "parser": parser, "template": None, "imported_from": file, "requests": 0}
        waiting.append(line)
        if len(waiting) == _LINES_AT_ONCE:
            store.append_now(waiting)
            added, waiting = added + len(waiting), []
    store.append_now(waiting)
    return added + len(waiting), present


def export_completions(
    rows: Rows,
    examples: Iterator[Example],
    completions: Callable[[Example], Lines],
    folder: str | os.PathLike,
    chunk: int | None = None,
) -> list[pathlib.Path]:
    """Writes the raw completions in the order of the rows; returns the files.

    Imported completions go back into the files that they came from; others into files of `chunk`.

    Args:
      rows: that they belong to.
      examples: all rows of the split's file.
      completions: a row's lines of the store.
      folder: to write to, such as `svamp/llm`.
      chunk: completions in a file; None for 1,000.

    Raises:
      UserError: when a row has none, or several.
    """
    source = reference_source(rows)
    folder, written, texts, origin = pathlib.Path(folder), [], [], None
    stem = source.stem(rows.split)

    def flush() -> None:
        path = folder / f"{stem}_CoT_{len(written)}.json"
        files.write_text(path, json.dumps(texts))
        written.append(path)
        texts.clear()

    for example in examples:
        lines = completions(example)
        if len(lines) != 1:
            raise UserError(
                f"row {example.id} has {len(lines)} completions: the layout has room for exactly one of each "
                "row; run annotate until none is missing, with one sample"
            )
        came_from = lines[0].get("imported_from") if chunk is None else None
        full = len(texts) == (chunk or DEFAULT_CHUNK) if came_from is None else came_from != origin
        if texts and full:
            flush()
        origin = came_from
        texts.append(lines[0]["text"])
    if texts:
        flush()
    return written
