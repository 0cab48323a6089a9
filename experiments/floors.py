"""What rules without knowledge reach on a task, by the share of its training rows, beside the teacher.

    python -m distill_jax.experiments.floors esnli_small --data-dir ../shared/datasets

A student below such a rule has learnt nothing that its words do not give away. The lookup's key is the
hypothesis, in the language inference tasks; see `scoring.floors`.
"""

import argparse
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from distill_jax.data.schema import Example
from distill_jax.data.selection import share
from distill_jax.data.task import DistillationTask
from distill_jax.data.vocabularies import END
from distill_jax.errors import UserError
from distill_jax.evaluation.evaluator import read_split
from distill_jax.evaluation.significance import share_interval
from distill_jax.experiments import results
from distill_jax.experiments.console import console
from distill_jax.scoring.floors import predictions
from distill_jax.tasks import entailment, registry

SHARES = (0.125, 0.25, 0.5, 1.0)


def hypothesis(example: Example) -> str | None:
    """What follows the premise; None of an input without one."""
    _, end, last = example.input.rpartition(END)
    return last if end else None


def measure(
    task: DistillationTask,
    split: str,
    shares: Sequence[float],
    seed: int = 0,
    num_examples: int | None = None,
) -> list[dict[str, Any]]:
    """Accuracies on a split, or its first `num_examples`, by the task's own metric, of rules and the teacher.

    Rows of the split without a reference label are left out, and `rows` says how many there are.

    Raises:
      UserError: when no row of the split has a reference label.
    """
    test = [example for example in read_split(task, split, num_examples) if example.label is not None]
    if not test:
        raise UserError(f"task {task.name}: no row of {split} has a reference label to score a rule by")
    key = entailment.asked if task.name == "entailment" else hypothesis
    found = []
    for part in shares:
        train = [example for _, example in share(task.source, "train", part, None, seed)]
        rules = predictions(train, test, task.classes, [key])
        if any(example.teacher_label is not None for example in test):
            rules["teacher"] = [example.teacher_label for example in test]
        accuracies = {}
        for name, labels in rules.items():
            right = sum(bool(task.is_right(*pair)) for pair in zip(test, labels, strict=True))
            accuracies[name] = {"value": right / len(test), "interval": share_interval(right, len(test))}
        found.append({"share": part, "train_examples": len(train), "rows": len(test), "accuracies": accuracies})
    return found


def table(figures: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: a share of the training rows each."""
    names = list(figures["floors"][0]["accuracies"])
    rows = [
        [f"{each['share']:.1%}", f"{each['train_examples']:,}"]
        + [f"{each['accuracies'][name]['value']:.1%}" for name in names]
        for each in figures["floors"]
    ]
    return ["of train", "rows", *names], rows


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, writes the figures, and prints them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", help="such as esnli")
    parser.add_argument("--data-dir", help="folder of the data sets")
    parser.add_argument("--split", default="test")
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES, help="of the training rows")
    parser.add_argument("--results", type=pathlib.Path, help="file of the figures")
    args = parser.parse_args(argv)
    try:
        task = registry.get_task(args.task, data_dir=args.data_dir)
        figures = {"task": task.name, "split": args.split, "floors": measure(task, args.split, args.shares)}
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    results.write(args.results or results.FOLDER / f"floors_{task.name}.json", figures)
    columns, rows = table(figures)
    shown = Table(
        *columns, title=f"{task.name}, accuracy on {figures['floors'][0]['rows']:,} rows of {args.split}"
    )
    for row in rows:
        shown.add_row(*row)
    console(width=110).print(shown)


if __name__ == "__main__":
    main()
