"""The demo's figures: means, intervals and tests of each method and size, and the rules beside them."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from distill_jax.evaluation.significance import seeds_interval, seeds_p
from distill_jax.experiments.demo.experiment import ARMS
from distill_jax.experiments.report.cells import p_is

NAMES = {
    ("step_by_step", "equal steps"): "step-by-step",
    ("standard", "equal steps"): "standard, equal steps",
    ("standard", "equal compute"): "standard, equal compute",
    ("teacher", "no student"): "teacher",
    ("majority", "no student"): "majority class",
    ("wording", "no student"): "floor: the wording alone",
    ("words", "no student"): "regression on words",
    ("lookup", "no student"): "lookup of train's pairs",
    ("joined", "no student"): "train's pairs joined up",
}
Results = Sequence[Mapping[str, Any]]


def sizes(results: Results) -> list[int]:
    """Numbers of training examples, rising."""
    return sorted({result["train_examples"] for result in results})


def of(results: Results, key: tuple[str, str], size: int) -> list[Mapping[str, Any]]:
    """The results of a method and budget with so many training examples, by seed."""
    found = [r for r in results if (r["method"], r["comparison"], r["train_examples"]) == (*key, size)]
    return sorted(found, key=lambda result: result["seed"])


def interval(results: Results, key: tuple[str, str], size: int) -> tuple[float, float]:
    """Of an accuracy, 95%; see `significance.seeds_interval`."""
    runs = of(results, key, size)
    correct = runs[0].get("correct", "")
    return seeds_interval([run["accuracy"] for run in runs], correct.count("1"), len(correct))


def p_value(results: Results, key: tuple[str, str], other: tuple[str, str], size: int) -> float:
    """That the two are one; see `significance.seeds_p`."""
    both = of(results, key, size), of(results, other, size)
    rows = [[char == "1" for char in runs[0].get("correct", "")] for runs in both]
    return seeds_p(*([run["accuracy"] for run in runs] for runs in both), rows)


def mean(results: Results, key: tuple[str, str], size: int) -> float:
    """Accuracy, the mean over the seeds."""
    return statistics.fmean(result["accuracy"] for result in of(results, key, size))


def table(results: Results) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: methods, the gains of step-by-step with p, and the rules, by training-set size."""
    columns = ["accuracy", *(f"{size:,} rows" for size in sizes(results))]
    present = {(result["method"], result["comparison"]) for result in results}
    rows = []
    for key in ARMS:
        cells = []
        for size in sizes(results):
            low, high = (100 * end for end in interval(results, key, size))
            cells.append(f"{100 * mean(results, key, size):.1f}% ({low:.1f} to {high:.1f})")
        rows.append([NAMES[key], *cells])
    ours, *others = ARMS
    for other in others:
        cells = []
        for size in sizes(results):
            gain = 100 * (mean(results, ours, size) - mean(results, other, size))
            cells.append(f"{gain:+.1f} ({p_is(p_value(results, other, ours, size))})")
        rows.append([f"gain over {NAMES[other]}", *cells])
    for key in NAMES:
        if key not in ARMS and key in present:
            cells = [f"{100 * mean(results, key, size):.1f}%" for size in sizes(results)]
            rows.append([NAMES[key], *cells])
    return columns, rows


def how(results: Results) -> str:
    """What the intervals and the tests are."""
    seeds = len({result["seed"] for result in results})
    if seeds > 1:
        return f"Means of {seeds} seeds, with Student's 95% intervals and paired tests over the seeds."
    return "One seed: Wilson's 95% intervals and McNemar's exact tests over the test rows, not over seeds."
