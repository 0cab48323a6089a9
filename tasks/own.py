"""The user's own data as a task, without code: files, or a set of a hub, with columns mapped by name."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from distill_jax.config import data as config
from distill_jax.config.data import hub_of
from distill_jax.data.chat_forms import FIELD, forms_of
from distill_jax.data.labels import class_names
from distill_jax.data.sources import HeldOutSource, JoinedSource, Source, table_of
from distill_jax.data.sources.hubs import HuggingFaceSource, SeqioSource, TfdsSource
from distill_jax.data.task import DistillationTask
from distill_jax.errors import UserError
from distill_jax.tasks.definition import define_task, import_module

HUBS = dict(zip(config.HUBS, (TfdsSource, HuggingFaceSource, SeqioSource), strict=True))


class Splits(TypedDict):
    """Each split's file, or its name in a set of a hub."""

    train: str
    validation: NotRequired[str]
    test: NotRequired[str]


class Description(TypedDict):
    """What `describe` returns, and a run's folder remembers."""

    data: str
    splits: Splits
    rationales: str | None
    columns: dict[str, str]
    classes: list[str] | None
    module: str | None
    chat: NotRequired[dict[str, Any]]


def describe(
    data: str,
    validation: str | None = None,
    test: str | None = None,
    rationales: str | None = None,
    columns: Mapping[str, str] | None = None,
    classes: Sequence[str] | None = None,
    module: str | None = None,
) -> Description:
    """What `own_task` takes, with absolute paths, for a run's folder to remember; `chat` is for the server.

    Args:
      data: a JSONL, CSV or Parquet file to train on; or `tfds:NAME`, `hf:NAME[:CONFIG]`, `seqio:TASK`.
      validation: another such file; or a split of the hub's set. Default: a tenth of train's inputs.
      test: likewise. Default: the validation rows.
      rationales: a file with the teacher's answers, joined by id.
      columns: field -> column; see `sources.Columns`.
      classes: the labels there are; white space around them does not count.
      module: Python module that registers the SeqIO task.

    Raises:
      UserError: for a file that is not there, has no rows or is of another kind than JSONL, CSV or Parquet, and
        for a class named twice.
    """
    classes = class_names(classes)
    hub = hub_of(data)
    files = {"train": data, "validation": validation, "test": test}
    if hub is None:
        kinds = {table_of(path) for path in files.values() if path}
        if len(kinds) > 1:
            raise UserError(
                f"--data: expected files of one kind, got {', '.join(filter(None, files.values()))}"
            )
        splits = {split: str(pathlib.Path(path).absolute()) for split, path in files.items() if path}
    else:
        splits = {split: name for split, name in files.items() if name} | {"train": "train"}
    for path in filter(None, [rationales, *([] if hub else files.values())]):
        if next(table_of(path)({"all": [path]}).rows("all"), None) is None:
            raise UserError(f"{path}: no rows")
    chat = forms_of(data) if hub is None else None
    return {
        "data": splits["train"] if hub is None else data,
        "splits": splits,
        "rationales": str(pathlib.Path(rationales).absolute()) if rationales else None,
        "columns": dict(columns or {}),
        "classes": list(classes) if classes else None,
        "module": module,
        **({FIELD: dataclasses.asdict(chat)} if chat else {}),
    }


def own_name(description: Mapping[str, Any]) -> str:
    """Name of the task: the file's or the set's, in lower case letters, digits and underscores."""
    hub = hub_of(description["data"])
    stem = hub[1] if hub else pathlib.Path(description["data"]).stem
    return re.sub(r"\W+", "_", stem).strip("_").lower() or "data"


def _source(description: Mapping[str, Any]) -> Source:
    if description["module"]:
        import_module(description["module"])
    splits, columns, classes = dict(description["splits"]), description["columns"], description["classes"]
    hub, joined = hub_of(description["data"]), description["rationales"]
    if "validation" in splits:
        splits.setdefault("test", splits["validation"])
    if hub is not None:
        source = HUBS[hub[0]](hub[1], columns, splits if len(splits) > 1 else None, not joined, classes)
    else:
        files = {split: [path] for split, path in splits.items()}
        source = table_of(splits["train"])(files, columns, not joined, classes)
    if joined:
        source = JoinedSource(source, joined, classes=classes)
    return source if "validation" in source.splits else HeldOutSource(source, whole_inputs=True)


def own_task(description: Mapping[str, Any]) -> DistillationTask:
    """The task of a `describe`, named `own_name`, registered nowhere; its splits are made up where files lack.

    Raises:
      UserError: for an unknown field among the columns.
    """
    return define_task(own_name(description), _source(description), classes=description["classes"])
