"""`distill-jax data` and `distill-jax prepare`: tasks, their statistics, their records."""

import argparse
import json
import sys

from distill_jax.cli.common import add_command, add_data_flags, resolve_task
from distill_jax.data.views import METHODS
from distill_jax.errors import UserError


def _data_list(args: argparse.Namespace) -> int:
    from distill_jax import tasks
    from distill_jax.tasks import registry

    for name, module in sorted(tasks.MODULES.items()):
        registry.get_task(name)
        print(f"{name:14} {sys.modules[f'distill_jax.tasks.{module}'].__doc__.splitlines()[0]}")
    return 0


def _data_show(args: argparse.Namespace) -> int:
    import itertools

    from rich.console import Console
    from rich.text import Text

    task, views = resolve_task(args, "step_by_step")
    console = Console()
    for example in itertools.islice(task.source.examples(args.split), args.count):
        console.print(Text(f"{example.id}  teacher: {example.teacher_label}", style="bold"))
        for view in views:
            texts = view(example)
            inputs, targets = texts if texts else (view.inputs(example), "(no target)")
            console.print(Text(f"  inputs   {inputs!r}\n  targets  {targets!r}"))
    return 0


def _data_stats(args: argparse.Namespace) -> int:
    from distill_jax.data.statistics import task_statistics

    figures = task_statistics(
        resolve_task(args, "step_by_step")[0],
        splits=[args.split] if args.split else None,
        vocabulary=args.vocabulary or "train:2000",
        task_feature_lengths=args.lengths,
    )
    if args.json:
        print(json.dumps(figures, indent=2))
        return 0
    from rich.console import Console
    from rich.table import Table

    lengths = figures["task_feature_lengths"]
    table = Table(
        title=f"{figures['task']}: vocabulary {figures['vocabulary']}, rows of {lengths['inputs']} and "
        f"{lengths['targets']} tokens"
    )
    for column in ("split", "rows", "teacher accuracy", "unparsed", "tokens (mean / p99)", "fill"):
        table.add_column(column)
    for split, row in figures["splits"].items():
        accuracy = row["teacher_accuracy"]
        tokens = ", ".join(
            f"{field} {seen['mean']:.0f} / {seen['p99']:.0f}" for field, seen in row["token_lengths"].items()
        )
        table.add_row(
            split,
            str(row["rows"]),
            "-" if accuracy is None else f"{accuracy:.4f}",
            str(row["unparsed"]),
            tokens,
            f"{row['packing_fill']['encoder']:.1%} / {row['packing_fill']['decoder']:.1%}",
        )
    Console().print(table)
    return 0


def _data_import(args: argparse.Namespace) -> int:
    from distill_jax.data.originals import import_original

    if not args.data_dir:
        raise UserError("say where to with --data-dir DIR")
    for split, rows in import_original(args.name, args.origin, args.data_dir).items():
        print(f"{args.data_dir}/{args.name}/{args.name}_{split}.json: {rows} rows")
    return 0


def _prepare(args: argparse.Namespace) -> int:
    from distill_jax.data.prepare import prepare

    prepared = prepare(
        *resolve_task(args, args.method, args.label_source),
        args.split,
        vocabulary=args.vocabulary or "train:2000",
        task_feature_lengths=args.lengths or {"inputs": 512, "targets": 256},
        data_fraction=args.data_fraction,
    )
    manifest = prepared.manifest
    print(
        f"{manifest['examples']} examples in {manifest['rows']} rows, encoder "
        f"{manifest['encoder_fill']:.1%} full: {prepared.path}"
    )
    return 0


def add(commands) -> None:
    """Adds the commands."""
    data = commands.add_parser("data", help="look at tasks and their statistics")
    data_commands = data.add_subparsers(required=True, metavar="COMMAND")
    add_command(data_commands, "list", "the tasks there are", _data_list)
    show = add_command(data_commands, "show", "examples of a task as the student sees them", _data_show)
    show.add_argument("task", nargs="?")
    show.add_argument("--split", default="train")
    show.add_argument("--count", type=int, default=3)
    add_data_flags(show)
    stats = add_command(data_commands, "stats", "rows, teacher accuracy, lengths, fill", _data_stats)
    stats.add_argument("task", nargs="?")
    stats.add_argument("--split")
    stats.add_argument("--json", action="store_true")
    add_data_flags(stats)
    original = add_command(
        data_commands, "import", "write a benchmark's rows in the paper's layout", _data_import
    )
    original.add_argument("name", help="anli1, anli2, anli3, cqa, esnli or svamp")
    original.add_argument(
        "--from", dest="origin", required=True, metavar="ORIGIN", help="hf, tfds; of svamp its SVAMP.json"
    )
    original.add_argument("--data-dir", help="folder of the data sets")

    prepare = add_command(commands, "prepare", "tokenize and pack a task ahead of training", _prepare)
    prepare.add_argument("task", nargs="?")
    prepare.add_argument("--method", default="step_by_step", choices=METHODS)
    prepare.add_argument("--split", default="train")
    prepare.add_argument("--label-source", default="reference", choices=("reference", "teacher"))
    prepare.add_argument("--data-fraction", type=float, default=1.0)
    add_data_flags(prepare)
