"""What is on the disk of a sweep: the records of its finished cells, without JAX."""

import json
import os
import pathlib
import sys
from typing import Any

from distill_jax import files
from distill_jax.errors import UserError
from distill_jax.experiments.sweep.grid import Cell, Sweep, folder_of

RESULT = "result.json"
# What the table and the report read of a record.
NEEDED = (
    "task",
    "method",
    "model",
    "fraction",
    "seed",
    "validation",
    "chosen",
    "search_seconds",
    "test_fingerprint",
)


def read_result(cell: Cell, root: pathlib.Path) -> dict[str, Any] | None:
    """The record of a cell; None where it is unfinished or damaged, or other values are searched since.

    A damaged one is told on stderr.
    """
    path = folder_of(cell, root) / RESULT
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if _searched(found) == _points(cell) else None
    except (ValueError, KeyError, TypeError) as error:
        print(f"{path}: damaged ({error!r:.80}): the cell is not finished", file=sys.stderr)
        return None


def take(path: str, sweep: Sweep, root: pathlib.Path) -> None:
    """Takes over the records of a results.json, of the cells of a sweep that are not finished in `root`.

    A record says all but the predictions of each row. `path` may be the folder of a results.json. What is not
    taken is told on stdout.

    Raises:
      UserError: for a file that is not the results.json of a sweep.
    """
    if os.path.isdir(path):
        path = os.path.join(path, "results.json")
    values = files.read_json(path)
    records = values.get("cells") if isinstance(values, dict) else None
    if not isinstance(records, list) or not all(isinstance(each, dict) and "name" in each for each in records):
        raise UserError(f"--finished {path}: expected the results.json of a sweep, with its `cells`")
    cells = {cell.name: cell for cell in sweep.cells}
    taken, known, foreign = 0, 0, []
    for record in records:
        if "error" in record:
            continue
        cell = cells.get(record["name"])
        if cell is None or not _is_record(record, cell):
            foreign.append(str(record["name"]))
        elif read_result(cell, root) is not None:
            known += 1
        else:
            folder = folder_of(cell, root)
            folder.mkdir(parents=True, exist_ok=True)
            files.write_text(folder / RESULT, json.dumps(record, indent=2, allow_nan=False) + "\n")
            taken += 1
    print(f"{path}: finished cells taken: {taken}, finished here before: {known}", flush=True)
    if foreign:
        why = "not taken, of other settings or rows than this sweep's, or without figures"
        print(f"  {why}: {', '.join(foreign)}", flush=True)


def _is_record(record: dict[str, Any], cell: Cell) -> bool:
    """Whether a record is whole, and of the values that the cell searches."""
    try:
        json.dumps(record, allow_nan=False)
        test, correct = record["test"], record["correct"]
        is_counted = (test["right"], test["total"]) == (correct.count("1"), len(correct)) and test["total"] > 0
        return is_counted and _searched(record) == _points(cell) and {*NEEDED} <= record.keys()
    except (KeyError, TypeError, ValueError, AttributeError):
        return False


def _searched(record: dict[str, Any]) -> list[Any]:
    return [each["values"] for each in record["search"]]


def _points(cell: Cell) -> list[Any]:
    return json.loads(json.dumps(cell.points()))
