"""What is on the disk of a sweep: the records of its finished cells, without JAX."""

import json
import os
import pathlib
import sys
from typing import Any

from distill_jax import files
from distill_jax.config.json_types import require_known
from distill_jax.errors import UserError
from distill_jax.experiments.sweep.grid import Cell, Sweep, folder_of

RESULT = "result.json"
# What the table and the report read of a record, and of the figures of a split.
_FIGURES = {"right": int, "total": int}
_RECORD = {
    "task": str,
    "train_examples": int,
    "chosen": dict,
    "validation": dict,
    "correct": str,
    "test": dict,
    "search": list[dict[str, Any]],
    "search_seconds": float,
    "test_fingerprint": str,
}
_MOST_TOLD = 10  # records, by name


def read_result(cell: Cell, root: pathlib.Path) -> dict[str, Any] | None:
    """The record of a cell; None where it is unfinished or damaged, or other values are searched since.

    A damaged one is told on stderr.
    """
    path = folder_of(cell, root) / RESULT
    if not path.exists():
        return None
    try:
        found = files.read_json(path)
        check(found, cell)
        return found if _searched(found) == _points(cell) else None
    except UserError as error:
        reason = str(error).removeprefix(f"{path}: ")
        print(f"{path}: damaged ({reason:.120}): the cell is not finished", file=sys.stderr)
        return None


def check(record: Any, cell: Cell) -> None:
    """Raises UserError for what is no record of a cell: names the first entry that is missing or another."""
    place = {"name": cell.name, **cell.place()}
    require_known(record, _RECORD)
    for name, expected in place.items():
        if record.get(name) != expected:
            raise UserError(f"{name}: expected {expected!r:.80}, got {record.get(name)!r:.80}")
    for name in ("validation", "test"):
        figures = record[name]
        require_known(figures, _FIGURES | ({"split": str} if name == "test" else {}), name)
        if not 0 <= figures["right"] <= figures["total"]:
            raise UserError(f"{name}: {figures['right']!r:.20} right of {figures['total']!r:.20}")
    right, rows = record["test"]["right"], record["correct"]
    if not rows or (right, record["test"]["total"]) != (rows.count("1"), rows.count("0") + right):
        raise UserError("correct: expected 0 or 1 for each test row, as many 1 as test.right says")
    for number, each in enumerate(record["search"]):
        require_known(each, {"values": dict}, f"search[{number}]")
    try:
        json.dumps(record, allow_nan=False)
    except (ValueError, RecursionError):
        raise UserError("a number that is not finite, or entries nested too deeply") from None


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
    if not isinstance(records, list) or not all(
        isinstance(each, dict) and isinstance(each.get("name"), str) for each in records
    ):
        raise UserError(f"--finished {path}: expected the results.json of a sweep, with its `cells`")
    cells = {cell.name: cell for cell in sweep.cells}
    taken, known, foreign = 0, 0, []
    for record in records:
        if "error" in record:
            continue
        cell = cells.get(record["name"])
        if (reason := _not_of(record, cell)) is not None:
            foreign.append(f"{record['name']!r:.200}: {reason}")
        elif read_result(cell, root) is not None:
            known += 1
        else:
            files.write_text(
                folder_of(cell, root) / RESULT, json.dumps(record, indent=2, allow_nan=False) + "\n"
            )
            taken += 1
    print(f"{path}: finished cells taken: {taken}, finished here before: {known}", flush=True)
    if foreign:
        print(f"  not taken: {len(foreign)}")
        told = [*foreign[:_MOST_TOLD], *(["…"] if len(foreign) > _MOST_TOLD else [])]
        print("".join(f"    {line}\n" for line in told), end="", flush=True)


def _not_of(record: dict[str, Any], cell: Cell | None) -> str | None:
    """Why a record is not taken for that of a cell; None where it is whole, of the values searched."""
    if cell is None:
        return "no cell of this sweep: other settings, or other rows in its files"
    try:
        check(record, cell)
    except UserError as error:
        return str(error)
    return None if _searched(record) == _points(cell) else "other values are searched"


def _searched(record: dict[str, Any]) -> list[Any]:
    return [each["values"] for each in record["search"]]


def _points(cell: Cell) -> list[Any]:
    return json.loads(json.dumps(cell.points()))
