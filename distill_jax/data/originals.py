"""The benchmarks' originals, written as the row files of the paper's layout, for a teacher to annotate.

What `data_utils.py` of the paper's reference code does: rows only, completions come from a teacher.
"""

import json
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from distill_jax import files
from distill_jax.config.options import nearest
from distill_jax.data import nli
from distill_jax.data.sources import HuggingFaceSource, TfdsSource
from distill_jax.errors import UserError

HUBS = {"hf": HuggingFaceSource, "tfds": TfdsSource}
Row = Mapping[str, Any]


class Original(NamedTuple):
    """Where a benchmark is kept."""

    names: Mapping[str, str]  # hub -> name of the set there
    splits: Mapping[str, Mapping[str, str]]  # hub -> (split of the row file -> split of the hub)
    row: Callable[[Row], Row]  # row of a hub -> row of the release


def _nli(row: Row) -> Row:
    label = row["label"]
    return {
        "premise": row["context" if "context" in row else "premise"],
        "hypothesis": row["hypothesis"],
        "label": nli.CLASSES.index(label) if isinstance(label, str) else label,
    }


def _cqa(row: Row) -> Row:
    return {name: row[name] for name in ("id", "question", "choices", "answer")}


_SAME = {"train": "train", "valid": "validation", "test": "test"}
ORIGINALS = {
    "cqa": Original(
        {"hf": "Salesforce/cos_e:v1.11", "tfds": "cos_e"},
        dict.fromkeys(HUBS, {"train": "train", "test": "validation"}),
        _cqa,
    ),
    "esnli": Original({"hf": "esnli/esnli", "tfds": "esnli"}, dict.fromkeys(HUBS, _SAME), _nli),
} | {
    f"anli{n}": Original(
        {"hf": "facebook/anli", "tfds": f"anli/r{n}"},
        {"hf": {"train": f"train_r{n}", "valid": f"dev_r{n}", "test": f"test_r{n}"}, "tfds": _SAME},
        _nli,
    )
    for n in (1, 2, 3)
}


def svamp_rows(path: pathlib.Path) -> dict[str, list[Row]]:
    """`SVAMP.json` of the benchmark -> the paper's split: 800 rows to train, the others to test.

    Raises:
      UserError: when it is not that file.
    """
    try:
        problems = json.loads(path.read_text(encoding="utf-8"))
        rows = [{"input": f"{p['Body']}\n{p['Question']}", "label": p["Equation"]} for p in problems]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not the SVAMP.json of the benchmark: {error!r}") from None
    order = np.random.RandomState(seed=0).permutation(len(rows))
    return {"train": [rows[i] for i in order[:800]], "test": [rows[i] for i in order[800:]]}


def _write(path: pathlib.Path, rows: Iterable[Row]) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def import_original(name: str, origin: str, data_dir: str) -> dict[str, int]:
    """Writes `<data_dir>/<name>/<name>_<split>.json` for every split; all of them or none.

    The benchmark is svamp or of `ORIGINALS`, its `origin` `hf` or `tfds`, with `:NAME` for another copy of the
    set there, and of svamp its `SVAMP.json`. Returns the number of rows by split.

    Raises:
      UserError: for an unknown benchmark or origin, files that are there already, and a set that cannot
        be had or has other columns.
    """
    folder = pathlib.Path(data_dir) / name
    if folder.exists():
        raise UserError(f"{folder} is there already: delete it to import {name} again")
    splits = svamp_rows(pathlib.Path(origin)) if name == "svamp" else _hub_rows(name, origin)
    with files.new_folder(folder, "choose another folder for the data sets") as temporary:
        return {split: _write(temporary / f"{name}_{split}.json", rows) for split, rows in splits.items()}


def _hub_rows(name: str, origin: str) -> dict[str, Iterable[Row]]:
    original = ORIGINALS.get(name)
    if original is None:
        raise UserError(f"no original of {name!r} is known: {nearest(name, ('svamp', *ORIGINALS))}")
    hub, _, other = origin.partition(":")
    if hub not in HUBS:
        raise UserError(f"--from {origin}: expected {' or '.join(HUBS)}")
    source = HUBS[hub](other or original.names[hub], splits=original.splits[hub])

    def rows(split: str) -> Iterable[Row]:
        for number, row in enumerate(source.rows(split), 1):
            try:
                yield original.row(row)
            except (KeyError, ValueError) as error:
                where, columns = f"{origin}, {split}, row {number}", ", ".join(row)
                raise UserError(f"{where}: no {error} in this row; it has {columns}") from None

    return {ours: rows(theirs) for ours, theirs in original.splits[hub].items()}
