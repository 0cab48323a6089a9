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
    from rich.table import Table

    low, high = result["interval"]
    rows = {
        "accuracy of A": f"{result['accuracies'][0]:.4f}",
        "accuracy of B": f"{result['accuracies'][1]:.4f}",
        "difference B - A": f"{result['difference']:+.4f}",
        "its 95% interval (paired bootstrap)": f"{low:+.4f} to {high:+.4f}",
        "p (paired bootstrap)": f"{result['bootstrap_p']:.4g}",
        "p (McNemar, exact)": f"{result['mcnemar_p']:.4g}",
        "both right": str(result["both"]),
        "only A right": str(result["only_first"]),
        "only B right": str(result["only_second"]),
        "both wrong": str(result["neither"]),
    }
    table = Table(title=f"{result['rows']} rows\nA: {args.first}\nB: {args.second}", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)
    return 0


def add(commands) -> None:
    """Adds the command."""
    compare = add_command(commands, "compare", "test two runs' predictions for a difference", _compare)
    compare.add_argument("first", metavar="A.jsonl", help="predictions of `distill-jax eval`")
    compare.add_argument("second", metavar="B.jsonl", help="another run's, of the same examples")
    compare.add_argument("--resamples", type=int, default=10_000, help="bootstrap samples")
    compare.add_argument("--seed", type=int, default=0)
    compare.add_argument("--json", action="store_true")
