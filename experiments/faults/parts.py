"""Runs the parts, in a process whose environment is that of the commands; see `main`."""

import importlib
import json
import pathlib
import sys
from collections.abc import Mapping

from distill_jax.experiments import results
from distill_jax.experiments.faults.bench import Bench


def run(counts: Mapping[str, int], work: pathlib.Path, path: pathlib.Path) -> None:
    """Runs the cases of some parts, by their counts, that the file of figures lacks; writes it after each."""
    bench = Bench(work)
    figures = json.loads(path.read_text()) if path.exists() else {}
    for part, count in counts.items():
        module = importlib.import_module(f"distill_jax.experiments.faults.{part}")
        for name, case in module.cases(bench, count).items():
            if name not in figures.setdefault(part, {}):
                figures[part][name] = case()
                print(f"{part}, {name}: {json.dumps(figures[part][name])}", flush=True)
                results.write(path, figures)


if __name__ == "__main__":
    run(json.loads(sys.argv[1]), *map(pathlib.Path, sys.argv[2:]))
