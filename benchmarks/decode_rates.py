"""Rows a second of decoding the test split, as `run` takes them from `benchmarks.decode`."""

import os
from typing import Any

from benchmarks import data, decode
from benchmarks.settings import Settings

VIEWS = {"labels": "label", "rationales": "rationale"}


def run(settings: Settings) -> dict[str, dict[str, Any]]:
    """By what is decoded, rows a second of each round by contestant, and the details of `decode.run`."""
    data.use(settings)
    own = decode.Settings(
        data_dir=os.environ["DISTILL_JAX_DATA_DIR"],
        rows=None if settings.full else settings.rows,
        repeats=settings.repeats,
        seconds=settings.seconds / len(VIEWS),
        peer_batch_sizes=(16, 64, 128) if settings.full else (16, 64),
        threads=settings.threads,
    )
    found = decode.run(own)
    return {name: found[view] for name, view in VIEWS.items()}
