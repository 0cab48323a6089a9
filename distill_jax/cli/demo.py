"""`distill-jax demo`."""

import argparse
import importlib.util
import sys

from distill_jax.cli.common import add_command
from distill_jax.errors import UserError

WITH_TEACHER = ("aiohttp", "openai", "prometheus_client", "pydantic", "scipy", "tenacity", "yaml")


def _demo(args: argparse.Namespace) -> int:
    if not args.with_teacher:
        from distill_jax.experiments.demo import main

        return main.run(task=args.task, seeds=args.seeds, output=args.output or "demo")
    missing = [name for name in WITH_TEACHER if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"--with-teacher needs {', '.join(missing)}: pip install 'distill_jax[serve,teachers]'")
    from distill_jax.experiments.demo import teacher_report
    from distill_jax.training.preemption import EXIT_STATUS, Preempted

    try:
        return teacher_report.run(task=args.task, seeds=args.seeds, output=args.output or "demo/with-teacher")
    except Preempted as stop:
        print(f"{stop}; the same command goes on from there", file=sys.stderr)
        return EXIT_STATUS


def add(commands) -> None:
    """Adds the command."""
    demo = add_command(commands, "demo", "standard against step-by-step, in minutes, on CPU", _demo)
    demo.add_argument("--task", default="entailment", help="an embedded task")
    demo.add_argument("--seeds", type=int, default=1, help="repeat over so many seeds")
    demo.add_argument(
        "--with-teacher",
        action="store_true",
        help="train a teacher too, serve it, annotate with it over HTTP, and distil it",
    )
    demo.add_argument(
        "--output", help="folder of report.html and results.json; default demo, or demo/with-teacher"
    )
