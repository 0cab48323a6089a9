"""The demo's learning rates: validation accuracy of each method at each rate, at every budget and size.

    python -m distill_jax.experiments.demo_rates

The same rates for all, with seeds that the demo does not use. A rate is chosen for the budget (equal steps,
equal compute) and the number of training rows at which the demo reports it; `Settings.learning_rates` holds the
choices, and a test compares the two.
"""

import argparse
import collections
import dataclasses
import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from distill_jax.experiments import results
from distill_jax.experiments.demo.experiment import ARMS, METHODS, Comparison, Settings, side_by_side

RATES = (1e-3, 2e-3, 4e-3)
FILE = results.FOLDER / "demo_rates.json"


def _score(method: str, size: int, rate: float, seed: int) -> list[dict[str, Any]]:
    """Accuracies of a method on validation, of one run at each of its budgets."""
    comparison = Comparison(dataclasses.replace(Settings(), split="validation"))
    budgets = [budget for name, budget in ARMS if name == method]
    found = comparison.run(method, budgets, size, seed, rate)
    return [{name: value for name, value in each.items() if name != "correct"} for each in found]


def best(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[int, float]]]:
    """Method -> budget -> size -> the rate of the best mean over the seeds; of equal ones the lowest."""
    scores = collections.defaultdict(list)
    for run in runs:
        cell = run["method"], run["comparison"], run["train_examples"]
        scores[*cell, run["learning_rate"]].append(run["accuracy"])
    means = {key: statistics.fmean(values) for key, values in scores.items()}
    chosen: dict[str, dict[str, dict[int, float]]] = {}
    for method, budget, size, rate in sorted(means, key=lambda key: (-means[key], key[3])):
        chosen.setdefault(method, {}).setdefault(budget, {}).setdefault(size, rate)
    return chosen


def main(argv: Sequence[str] | None = None) -> None:
    """Trains at every rate, writes the scores, and prints the choices."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1, help="from 100 on")
    parser.add_argument("--jobs", type=int, help="processes beside each other; default one for each core")
    parser.add_argument("--results", type=pathlib.Path, default=FILE, help="file of the scores")
    args = parser.parse_args(argv)
    seeds = range(100, 100 + args.seeds)
    calls = [(m, n, r, s) for n in Settings().train_sizes for m in METHODS for r in RATES for s in seeds]
    runs = []
    for found in side_by_side(_score, calls, args.jobs):
        runs += found
        for run in found:
            print(json.dumps(run), flush=True)
    results.write(args.results, {"split": "validation", "runs": runs})
    print(json.dumps(best(runs), indent=2))


if __name__ == "__main__":
    main()
