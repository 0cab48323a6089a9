"""`distill-jax select`: which rows to have annotated next."""

import json
import sys
from collections.abc import Iterable

from distill_jax import files
from distill_jax.cli.annotate import rows_of
from distill_jax.cli.common import add_command, quiet, with_extra
from distill_jax.config import SelectConfig
from distill_jax.errors import UserError


@with_extra
def _select(config: SelectConfig) -> int:
    from distill_jax.teachers.rows import read_ids

    rows = rows_of(config)
    excluded = set().union(*map(read_ids, config.exclude))
    left = (example for example in rows.examples() if example.id not in excluded)
    chosen = _least_sure(config, left) if config.run else _at_random(config, left)
    if not chosen:
        raise UserError(f"{config.source}: no rows to choose from, {len(excluded)} ids are excluded")
    if len(chosen) < config.count:
        print(f"{len(chosen)} rows only: there are no more to choose from", file=sys.stderr)
    if not config.output:
        print("\n".join(row["id"] for row in chosen))
        return 0
    files.write_text(config.output, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in chosen))
    return 0


def _at_random(config: SelectConfig, rows: Iterable) -> list[dict]:
    from distill_jax.decoding.select import at_random

    return [{"id": name} for name in at_random(rows, config.count, config.seed)]


def _least_sure(config: SelectConfig, rows: Iterable) -> list[dict]:
    from distill_jax.decoding.predictor import Predictor
    from distill_jax.decoding.select import uncertainties
    from distill_jax.scoring.uncertainty import least_sure

    quiet()
    predictor = Predictor(config.run, config.step, config.batch_size)
    chosen = least_sure(uncertainties(predictor, rows, config.measure), config.count)
    return [{"id": row.id, "uncertainty": row.uncertainty, "predicted_label": row.label} for row in chosen]


def add(commands) -> None:
    """Adds the command."""
    help_text = "the rows to annotate next: those a student is least sure of"
    add_command(commands, "select", help_text, _select, SelectConfig)
