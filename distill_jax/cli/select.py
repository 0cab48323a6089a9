"""`distill-jax select`: which rows to have annotated next."""

import argparse
import sys

from distill_jax.cli.annotate import add_rows_flags, positive, with_extra
from distill_jax.cli.common import add_command
from distill_jax.scoring.uncertainty import LOG_PROB, MEASURES


@with_extra
def _select(args: argparse.Namespace) -> int:
    from distill_jax.teachers.selection import select

    chosen = select(args)
    if len(chosen) < args.count:
        print(f"{len(chosen)} rows only: there are no more to choose from", file=sys.stderr)
    if not args.output:
        print("\n".join(row["id"] for row in chosen))
    return 0


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
