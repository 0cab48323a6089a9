"""`distill-jax data` and `distill-jax prepare`: tasks, their statistics, their records."""

import argparse
import json
import sys

from distill_jax.commands.common import METHODS, add_command, add_data_flags, use_data_dir


def _data_list(args: argparse.Namespace) -> int:
    from distill_jax import tasks
    from distill_jax.data import registry

    with registry.without_seqio():
        for name, module in sorted(tasks.MODULES.items()):
            registry.get_task(name)
            print(f"{name:14} {sys.modules[f'distill_jax.tasks.{module}'].__doc__.splitlines()[0]}")
    return 0


def _data_show(args: argparse.Namespace) -> int:
    import itertools

    from rich.console import Console
    from rich.text import Text

    from distill_jax.data import registry

    use_data_dir(args)
    with registry.without_seqio():
        task, views = registry.resolve(f"{args.task}_step_by_step", module=args.module)
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

    use_data_dir(args)
    figures = task_statistics(
        args.task,
        splits=[args.split] if args.split else None,
        vocabulary=args.vocabulary or "train:2000",
        task_feature_lengths=args.lengths,
        module=args.module,
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


def _prepare(args: argparse.Namespace) -> int:
    from distill_jax.data.prepare import prepare

    use_data_dir(args)
    prepared = prepare(
        f"{args.task}_{args.method}",
        args.split,
        vocabulary=args.vocabulary or "train:2000",
        task_feature_lengths=args.lengths or {"inputs": 512, "targets": 256},
        label_source=args.label_source,
        data_fraction=args.data_fraction,
        module=args.module,
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
    show.add_argument("task")
    show.add_argument("--split", default="train")
    show.add_argument("--count", type=int, default=3)
    add_data_flags(show)
    stats = add_command(data_commands, "stats", "rows, teacher accuracy, lengths, fill", _data_stats)
    stats.add_argument("task")
    stats.add_argument("--split")
    stats.add_argument("--json", action="store_true")
    add_data_flags(stats)

    prepare = add_command(commands, "prepare", "tokenize and pack a task ahead of training", _prepare)
    prepare.add_argument("task")
    prepare.add_argument("--method", default="step_by_step", choices=METHODS)
    prepare.add_argument("--split", default="train")
    prepare.add_argument("--label-source", default="gold", choices=("gold", "teacher"))
    prepare.add_argument("--data-fraction", type=float, default=1.0)
    add_data_flags(prepare)
