"""Rows a second of decoding the whole test split, as `run` takes them from `benchmarks.decode`."""

import os
from typing import Any

from benchmarks import data, decode
from benchmarks.settings import Settings

VIEWS = {"labels": "label", "rationales": "rationale"}


def run(settings: Settings) -> dict[str, dict[str, Any]]:
    """By what is decoded, rows a second of each repetition by contestant."""
    data.use(settings)
    own = decode.Settings(
        data_dir=os.environ["DISTILL_JAX_DATA_DIR"],
        repeats=settings.repeats,
        threads=settings.threads,
    )
    found = decode.run(own)
    return {name: _rates(found[view]) for name, view in VIEWS.items()}


def _rates(found: dict[str, Any]) -> dict[str, Any]:
    contestants = {
        name: found[name]["rows_per_second"] if found.get(name) else None for name in ("ours", "transformers")
    }
    others = ("rows", "rows_that_differ", "transformers_settings", "output_tokens")
    return contestants | {name: found[name] for name in others if name in found}
