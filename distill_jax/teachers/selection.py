"""Which rows to have annotated next: the workflow of `distill-jax select`."""

import json
from collections.abc import Iterator
from typing import Any

from distill_jax import files
from distill_jax.config import SelectConfig
from distill_jax.data.schema import Example
from distill_jax.errors import UserError
from distill_jax.teachers.rows import read_ids, rows_of


def select(config: SelectConfig) -> list[dict[str, Any]]:
    """Chooses `config.count` rows: those that a student is least sure of, or at random without a student.

    Writes them to `config.output`, as JSON lines, where that is given.

    Returns:
      `id` of each row, and of a student's rows `uncertainty` and `predicted_label`, least sure first; fewer
      than asked for where there are no more.

    Raises:
      UserError: when no row is left to choose from, and for files that cannot be read or written.
    """
    rows = rows_of(config)
    excluded = set().union(*map(read_ids, config.exclude))
    remaining = (example for example in rows.examples() if example.id not in excluded)
    chosen = _least_sure(config, remaining) if config.run else _at_random(config, remaining)
    if not chosen:
        raise UserError(f"{config.source}: no rows to choose from, {len(excluded)} ids are excluded")
    if config.output:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in chosen)
        files.write_text(config.output, text)
    return chosen


def _at_random(config: SelectConfig, rows: Iterator[Example]) -> list[dict[str, Any]]:
    from distill_jax.decoding.select import at_random  # the decoding imports JAX

    return [{"id": name} for name in at_random(rows, config.count, config.seed)]


def _least_sure(config: SelectConfig, rows: Iterator[Example]) -> list[dict[str, Any]]:
    from distill_jax.decoding.predictor import Predictor
    from distill_jax.decoding.select import uncertainties
    from distill_jax.scoring.uncertainty import least_sure

    options = {"verify": config.verify_checksums, "trust": config.trust, "engine": config.engine}
    predictor = Predictor(config.run, config.step, config.batch_size, config.weights, **options)
    chosen = least_sure(uncertainties(predictor, rows, config.measure), config.count)
    return [{"id": row.id, "uncertainty": row.uncertainty, "predicted_label": row.label} for row in chosen]
