"""`distill-jax data` and `distill-jax prepare`: tasks, their statistics, their records."""

import itertools
import sys
from collections.abc import Mapping
from typing import Any

from distill_jax.cli.common import command, print_json, with_extra
from distill_jax.config import ImportConfig, PrepareConfig, ShowConfig, StatisticsConfig
from distill_jax.config.start import SCRATCH_VOCABULARY
from distill_jax.errors import UserError


@command("data list", "the tasks there are")
def _data_list() -> int:
    from distill_jax import tasks
    from distill_jax.tasks import registry

    for name, module in sorted(tasks.MODULES.items()):
        registry.get_task(name)
        print(f"{name:14} {sys.modules[f'distill_jax.tasks.{module}'].__doc__.splitlines()[0]}")
    return 0


@command("data show", "examples of a task as the student sees them")
def _data_show(config: ShowConfig) -> int:
    from rich.text import Text

    from distill_jax.experiments.console import console
    from distill_jax.tasks.resolve import resolve

    resolved = resolve(config)
    task, views = resolved.task, resolved.views
    shown = console()
    for example in itertools.islice(task.source.examples(config.split), config.count):
        shown.print(Text(f"{example.id}  teacher: {example.teacher_label}", style="bold"))
        for view in views:
            texts = view(example)
            inputs, targets = texts if texts else (view.inputs(example), "(no target)")
            shown.print(Text(f"  inputs   {inputs!r}\n  targets  {targets!r}"))
    return 0


@command("data stats", "rows, teacher accuracy, lengths, fill")
def _data_stats(config: StatisticsConfig) -> int:
    from distill_jax.checkpoints.vocabulary import vocabulary_spec
    from distill_jax.data.statistics import task_statistics
    from distill_jax.tasks.resolve import resolve

    figures = task_statistics(
        resolve(config).task,
        splits=[config.split] if config.split else None,
        vocabulary=vocabulary_spec(config.vocabulary, None),
        task_feature_lengths=config.task_feature_lengths,
    )
    if config.json:
        print_json(figures)
        return 0
    from distill_jax.experiments.console import console

    console().print(_statistics_table(figures))
    return 0


def _statistics_table(figures: Mapping[str, Any]):
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
        shown = "-" if accuracy is None else f"{accuracy:.4f}"
        fill = f"{row['packing_fill']['encoder']:.1%} / {row['packing_fill']['decoder']:.1%}"
        table.add_row(split, str(row["rows"]), shown, str(row["unparsed"]), tokens, fill)
    return table


@command("data import", "write a benchmark's rows in the paper's layout, or rows from a file of chats")
@with_extra
def _data_import(config: ImportConfig) -> int:
    needed = {"--from": config.origin, "--data-dir": config.data_dir}
    if config.name == "chat":
        needed = {"FILE": config.file, "--output": config.output}
    if missing := [flag for flag, value in needed.items() if value is None]:
        raise UserError(f"data import {config.name} needs {' and '.join(missing)}")
    if config.name == "chat":
        from distill_jax.teachers.chats import import_chats

        counts = import_chats(config)
        print(f"{config.output}: {counts.pop('rows')} rows")
        for what, count in counts.items():
            print(f"{count} {what}", file=sys.stderr)
        return 0
    from distill_jax.data.originals import import_original

    for split, rows in import_original(config.name, config.origin, config.data_dir).items():
        print(f"{config.data_dir}/{config.name}/{config.name}_{split}.json: {rows} rows")
    return 0


@command("prepare", "tokenize and pack a task ahead of training")
def _prepare(config: PrepareConfig) -> int:
    from distill_jax.checkpoints.hub import NotFetched
    from distill_jax.checkpoints.vocabulary import vocabulary_spec
    from distill_jax.data.prepare import checked, prepare
    from distill_jax.data.selection import Filters
    from distill_jax.tasks.resolve import resolve

    resolved = resolve(config)
    task, split = resolved.task, config.split
    next(checked(enumerate(task.source.examples(split)), task, split, resolved.views), None)  # before any fetch
    try:
        vocabulary = vocabulary_spec(config.vocabulary, config.start)
    except NotFetched as error:
        raise UserError(
            f"the vocabulary of {error}; give --vocabulary FOLDER or {SCRATCH_VOCABULARY}, or with --init what "
            "train will have: a local folder of the checkpoint, or none"
        ) from None
    prepared = prepare(
        task,
        resolved.views,
        split,
        vocabulary=vocabulary,
        task_feature_lengths=config.task_feature_lengths,
        pack=config.pack,
        data_fraction=config.data_fraction,
        num_examples=config.num_examples,
        filters=Filters(**config.filters),
        seed=config.seed,
        verify=config.verify_checksums,
    )
    manifest = prepared.manifest
    print(
        f"{manifest['examples']} examples in {manifest['rows']} rows, encoder "
        f"{manifest['encoder_fill']:.1%} full: {prepared.path}"
    )
    return 0
