"""The commands `store import` and `store export`: completions into a store and out of it, without a teacher.

The reference layout is the paper's, `llm/<split>_CoT_<k>.json`; what was imported is exported byte for byte.
"""

import json
import pathlib
from collections.abc import Callable

from distill_jax import files
from distill_jax.config import StoreExportConfig, StoreImportConfig
from distill_jax.data.schema import Example
from distill_jax.data.sources import ReferenceSource
from distill_jax.errors import UserError
from distill_jax.teachers import export, parsing, prompts
from distill_jax.teachers.figures import Lines
from distill_jax.teachers.rows import Rows, rows_of
from distill_jax.teachers.store import Key, Store

_LINES_AT_ONCE = 1000  # appended to the store together
DEFAULT_CHUNK = 1000  # completions in a file


def _reference_source(rows: Rows) -> ReferenceSource:
    if not isinstance(rows.source, ReferenceSource):
        raise UserError(f"{rows.name} has no files in the layout of the paper's release")
    return rows.source


def import_files(config: StoreImportConfig) -> tuple[int, int]:
    """Reads the files of the paper's release into a store; (completions added, completions it had).

    Raises:
      UserError: for an unknown parser or another layout, and when files are missing or do not have as many
        completions as there are rows.
    """
    rows = rows_of(config)
    parser = config.parser or prompts.load_template(rows.prompt).answers_by(structured=False)
    try:
        parsing.parser(parser)
    except ValueError as error:
        raise UserError(f"--parser: {error}") from None
    added, present, waiting = 0, 0, []
    with Store(config.store) as store:
        for row_id, file, text in _reference_source(rows).completions(rows.split):
            if not store.missing(Key(row_id, "", config.model, {}), 1):
                present += 1
                continue
            line = {"id": row_id, "sample": 0, "prompt": "", "model": config.model, "sampling": {}}
            line |= {"text": text, "parser": parser, "template": None, "imported_from": file, "requests": 0}
            waiting.append(line)
            if len(waiting) == _LINES_AT_ONCE:
                store.append_now(waiting)
                added, waiting = added + len(waiting), []
        store.append_now(waiting)
    return added + len(waiting), present


def export_rows(config: StoreExportConfig) -> export.Delivery | list[pathlib.Path]:
    """Writes a store's completions as rows to train on, or with `layout` "reference" as the paper's files.

    Returns:
      The delivery of rows, or the written files.

    Raises:
      UserError: when a row has completions of several settings, or a file cannot be written.
    """
    rows = rows_of(config)
    with Store(config.store, readonly=True) as store:
        completions = export.only_setting(store, config.model, config.template)
        if config.layout == "reference":
            return _export_files(rows, completions, pathlib.Path(config.output), config.chunk_size)
        template = prompts.load_template(config.prompt or rows.prompt)
        described = f"{config.source}, split {config.split}"
        settings = {"rows": described, "store": config.store, "model": config.model}
        return export.deliver(config, rows, rows.examples(), completions, template, settings)


def _export_files(
    rows: Rows, completions: Callable[[Example], Lines], folder: pathlib.Path, chunk: int | None
) -> list[pathlib.Path]:
    """Writes the raw completions in the order of the rows, one of each; returns the files.

    Without `chunk`, imported completions go back into the files they came from, others into files of 1,000.
    """
    stem, written, texts, origin = _reference_source(rows).stem(rows.split), [], [], None

    def flush() -> None:
        path = folder / f"{stem}_CoT_{len(written)}.json"
        files.write_text(path, json.dumps(texts))
        written.append(path)
        texts.clear()

    for example in rows.examples():
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
