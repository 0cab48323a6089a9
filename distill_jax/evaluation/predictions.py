"""Predictions as JSON lines."""

import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any


def write_predictions(path: pathlib.Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a row a line; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    temporary.rename(path)
