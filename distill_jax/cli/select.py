"""`distill-jax select`: which rows to have annotated next."""

import argparse
import json
import sys

from distill_jax import files
from distill_jax.cli.annotate import add_rows_flags, positive, rows_of, with_extra
from distill_jax.cli.common import add_command
from distill_jax.errors import UserError
from distill_jax.scoring.uncertainty import LOG_PROB, MEASURES


@with_extra
def _select(args: argparse.Namespace) -> int:
    from distill_jax.teachers.rows import read_ids

    if args.run is None and args.measure:
        raise UserError("--measure is of a student's scores: give its folder with --run")
    rows = rows_of(args)
    excluded = set().union(*map(read_ids, args.exclude))
    left = (example for example in rows.examples() if example.id not in excluded)
    found = _least_sure(args, left) if args.run else _at_random(args, left)
    if not found:
        raise UserError(f"{args.source}: no rows to choose from, {len(excluded)} ids are excluded")
    if len(found) < args.count:
        print(f"{len(found)} rows only: there are no more to choose from", file=sys.stderr)
    if not args.output:
        print("\n".join(row["id"] for row in found))
        return 0
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
    files.write_text(args.output, text)
    return 0


def _at_random(args: argparse.Namespace, rows) -> list[dict]:
    from distill_jax.decoding.select import at_random

    return [{"id": name} for name in at_random(rows, args.count, args.seed)]


def _least_sure(args: argparse.Namespace, rows) -> list[dict]:
    import logging

    from distill_jax.decoding.predictor import Predictor
    from distill_jax.decoding.select import uncertainties
    from distill_jax.scoring.uncertainty import least_sure

    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells of every file it opens
    predictor = Predictor(args.run, args.step, args.batch_size)
    found = least_sure(uncertainties(predictor, rows, args.measure), args.count)
    return [{"id": row.id, "uncertainty": row.uncertainty, "predicted_label": row.label} for row in found]


def add(commands) -> None:
    """Adds the command."""
    select = add_command(
        commands, "select", "the rows to annotate next: those a student is least sure of", _select
    )
    add_rows_flags(select)
    select.add_argument("--count", type=positive, required=True, help="rows to choose")
    select.add_argument("--run", metavar="FOLDER", help="of the student that is asked; without it: at random")
    select.add_argument("--step", type=int, help="of a checkpoint; default the latest")
    select.add_argument(
        "--measure",
        choices=(*MEASURES, LOG_PROB),
        help="default margin; log-prob where there are no labels to rank",
    )
    select.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="FILE",
        help="ids that are annotated already, one a line, or JSONL with id; may be repeated",
    )
    select.add_argument("--seed", type=int, default=0, help="of the choice at random")
    select.add_argument("--batch-size", type=positive, default=64)
    select.add_argument("--output", metavar="FILE", help="JSONL with scores; default the ids, one a line")
