"""`distill-jax compare`: do two runs differ by more than chance?"""

import argparse
import json

from distill_jax.cli.common import add_command
from distill_jax.errors import UserError


def _compare(args: argparse.Namespace) -> int:
    from distill_jax.evaluation.comparison import compare_files

    if args.resamples < 1:
        raise UserError(f"--resamples: expected 1 or more, got {args.resamples}")
    result = compare_files(args.first, args.second, resamples=args.resamples, seed=args.seed)
    if args.json:
        print(json.dumps(result, indent=2))
        return 0
    from rich.console import Console

    from distill_jax.evaluation.tables import comparison_table

    Console().print(comparison_table(result))
    return 0


def add(commands) -> None:
    """Adds the command."""
    compare = add_command(commands, "compare", "test two runs' predictions for a difference", _compare)
    compare.add_argument("first", metavar="A.jsonl", help="predictions of `distill-jax eval`")
    compare.add_argument("second", metavar="B.jsonl", help="another run's, of the same examples")
    compare.add_argument("--resamples", type=int, default=10_000, help="bootstrap samples")
    compare.add_argument("--seed", type=int, default=0)
    compare.add_argument("--json", action="store_true")
