"""How the demo's learning rates were chosen: validation accuracy of each method at several rates.

    python -m distill_jax.experiments.demo_rates

Seeds 100 and 101, which the demo does not use, and 2,000 training rows; `standard` is scored at equal compute,
where it is at its best.
"""

import dataclasses

import numpy as np
from rich.console import Console
from rich.table import Table

from distill_jax.experiments.demo.experiment import METHODS, Comparison, Settings

RATES = (2.5e-4, 5e-4, 1e-3, 2e-3)
SEEDS = (100, 101)


def main() -> None:
    """Trains at every rate, and prints a table."""
    table = Table("method", *(f"{rate:g}" for rate in RATES), title="validation accuracy, mean of 2 seeds")
    for method in METHODS:
        cells = []
        for rate in RATES:
            rates = dict.fromkeys(METHODS, rate)
            comparison = Comparison(dataclasses.replace(Settings(), split="validation", learning_rates=rates))
            scores = [comparison.run(method, 2000, seed)[-1]["accuracy"] for seed in SEEDS]
            cells.append(f"{np.mean(scores):.1%} ({', '.join(f'{score:.3f}' for score in scores)})")
        table.add_row(method, *cells)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
