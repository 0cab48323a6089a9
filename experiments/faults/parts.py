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
        cases = importlib.import_module(f"distill_jax.experiments.faults.{part}").cases(bench, count)
        done = figures.get(part, {})
        for name in [name for name in cases if name not in done]:
            done[name] = cases[name]()
            print(f"{part}, {name}: {json.dumps(done[name])}", flush=True)
            figures[part] = {name: done[name] for name in cases if name in done}
            results.write(path, figures)


if __name__ == "__main__":
    run(json.loads(sys.argv[1]), *map(pathlib.Path, sys.argv[2:]))
