"""`distill-jax demo`."""

import argparse

from distill_jax.commands.common import add_command


def _demo(args: argparse.Namespace) -> int:
    from distill_jax.demo import main

    return main.run(task=args.task, seeds=args.seeds, output=args.output)


def add(commands) -> None:
    """Adds the command."""
    demo = add_command(commands, "demo", "standard against step-by-step, in minutes, on CPU", _demo)
    demo.add_argument("--task", default="entailment", help="an embedded task")
    demo.add_argument("--seeds", type=int, default=1, help="repeat over so many seeds")
    demo.add_argument("--output", default="demo", help="folder of report.html and results.json")
