"""Figures of evaluations as rich tables and lines, for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def console(**options: Any) -> Console:
    """A console that shows texts as they are: `[/yes]` in a label or a path is no tag, and `:x:` no emoji."""
    return Console(markup=False, emoji=False, **options)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return " to ".join(f"{number:.4f}" for number in value)
    return f"{value:.4f}" if isinstance(value, float) and not value.is_integer() else f"{value:g}"


def evaluation_tables(title: str, results: Sequence[Mapping[str, Any]]) -> list[Table]:
    """The metrics of all checkpoints, and of the last the figures of each class."""
    return [metrics_table(title, results), *class_tables(results[-1])]


def metrics_table(title: str, results: Sequence[Mapping[str, Any]]) -> Table:
    """A metric a row, a checkpoint (its `step` and metrics) a column; only numbers and intervals are shown."""
    table = Table(title=title)
    table.add_column("metric")
    for result in results:
        table.add_column(f"step {result['step']}", justify="right")
    names = dict.fromkeys(name for result in results for name in result if name != "step")
    for name in names:
        values = [result.get(name) for result in results]
        if name != "confusion" and all(isinstance(value, int | float | list | None) for value in values):
            table.add_row(name, *map(_cell, values))
    return table


def class_tables(result: Mapping[str, Any]) -> list[Table]:
    """Figures of each class and the confusion matrix of a checkpoint; none where the task has no classes."""
    if "classes" not in result:
        return []
    report = Table(title=f"classes, step {result['step']}")
    for column in ("class", "precision", "recall", "f1", "support"):
        report.add_column(column, justify="left" if column == "class" else "right")
    for name, figures in result["classes"].items():
        shares = (f"{figures[column]:.4f}" for column in ("precision", "recall", "f1"))
        report.add_row(name, *shares, str(figures["support"]))
    confusion = Table(title=f"reference (rows) and predicted (columns), step {result['step']}")
    confusion.add_column("")
    for name in (*result["classes"], "other"):
        confusion.add_column(name, justify="right")
    for name, counts in zip(result["classes"], result["confusion"], strict=True):
        confusion.add_row(name, *map(str, counts))
    return [report, confusion]


def comparison_table(result: Mapping[str, Any]) -> Table:
    """What `comparison.compare_files` gives: both accuracies, their difference, its interval and p values."""
    first, second = result["files"]
    low, high = result["interval"]
    table = Table(title=f"{result['rows']} rows\nA: {first}\nB: {second}", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in {
        "accuracy of A": f"{result['accuracies'][0]:.4f}",
        "accuracy of B": f"{result['accuracies'][1]:.4f}",
        "difference B - A": f"{result['difference']:+.4f}",
        "its 95% interval (Newcombe)": f"{low:+.4f} to {high:+.4f}",
        "p (paired bootstrap)": f"{result['bootstrap_p']:.4g}",
        "p (McNemar, exact)": f"{result['mcnemar_p']:.4g}",
        "both right": str(result["both"]),
        "only A right": str(result["only_first"]),
        "only B right": str(result["only_second"]),
        "both wrong": str(result["neither"]),
    }.items():
        table.add_row(name, value)
    return table


def quantization_cost(exact: Mapping[str, Any], quantized: Mapping[str, Any]) -> str:
    """A line on what quantization changes: `label_accuracy 0.5120, float32 0.5160 (-0.0040)`.

    `exact` are the figures with float32 weights, `quantized` those with the weights that `weights` names.
    """
    changes = [
        f"{name} {quantized[name]:.4f}, float32 {value:.4f} ({quantized[name] - value:+.4f})"
        for name, value in exact.items()
        if isinstance(value, float) and isinstance(quantized.get(name), float)
        if "accuracy" in name or "rouge" in name
    ]
    return f"cost of {quantized['weights']} weights, step {quantized['step']}: {'; '.join(changes)}"
