"""What is on the disk of a sweep: the records of its finished cells, without JAX."""

import json
import pathlib
import sys
from typing import Any

from distill_jax.experiments.sweep.grid import Cell, folder_of

RESULT = "result.json"


def read_result(cell: Cell, root: pathlib.Path) -> dict[str, Any] | None:
    """The record of a cell; None where it is unfinished or damaged, or other values are searched since.

    A damaged one is told on stderr.
    """
    path = folder_of(cell, root) / RESULT
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        searched = [each["values"] for each in found["search"]]
    except (ValueError, KeyError, TypeError) as error:
        print(f"{path}: damaged ({error!r:.80}): the cell is not finished", file=sys.stderr)
        return None
    return found if searched == json.loads(json.dumps(cell.points())) else None
