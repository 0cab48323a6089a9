"""Predictions as JSON lines."""

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from distill_jax import files


def write_predictions(path: str | os.PathLike, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one row per line; see `files.atomic_write`."""
    with files.atomic_write(path) as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
