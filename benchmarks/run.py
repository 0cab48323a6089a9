"""All benchmarks, ours beside the peers: `make bench`.

    python -m benchmarks.run [--only train,decode] [--repeats 5] [--rows 256]

Prints tables and writes `benchmarks/results/<date>-<device>.json`. A peer that is not installed is null in
there. docs/benchmarks.md says how each is measured.
"""

import argparse
import dataclasses
import importlib
import json
import pathlib
import sys
import time

from rich.console import Console

from benchmarks import data, measure, results, step_scaling, worker
from benchmarks import settings as settings_of
from benchmarks.settings import Settings

PARTS = {
    "train": "benchmarks.train_step.run",
    "train_t5gemma": "benchmarks.train_step.run_t5gemma",
    "decode": "benchmarks.decode_rates.run",
    "scaling": "benchmarks.step_scaling.run",
    "startup": "benchmarks.startup.run",
    "prepare": "benchmarks.prepare_peers.run",
}


def measured(part: str, settings: Settings) -> dict:
    """What a benchmark finds, in a process of its own: none runs in memory that another has used."""
    return worker.call("benchmarks.run", "--worker", part, stdin=dataclasses.asdict(settings))["found"]


def startup_results(found: dict) -> tuple[dict, dict]:
    """(start-up, memory) in the form of the results."""
    parts = {
        name: one
        and one
        | {
            "seconds": measure.summary(one["seconds"]),
            "process_seconds": measure.summary(one["process_seconds"]),
        }
        for name, one in found.items()
    }
    return parts, {name: one and one["peak_gib"] for name, one in found.items()}


def assemble(found: dict[str, dict | None], settings: Settings, device: str) -> dict:
    """The results of the parts that were run, each of the others None."""
    decode = found.get("decode") or {}
    startup, memory = None, None
    if found.get("startup"):
        startup, memory = startup_results(found["startup"])
    return {
        "device": device,
        "cores": settings.threads,
        "versions": results.versions(),
        "data": data.which(settings),
        "settings": {k: v for k, v in dataclasses.asdict(settings).items() if k not in ("data_dir", "work")},
        "train": results.rates("train", found.get("train")),
        "train_t5gemma": results.rates("train_t5gemma", found.get("train_t5gemma")),
        "decode_labels": results.rates("decode_labels", decode.get("labels")),
        "decode_rationales": results.rates("decode_rationales", decode.get("rationales")),
        "prepare": results.rates("prepare", found.get("prepare")),
        "startup": startup,
        "scaling": found.get("scaling"),
        "memory": memory,
    }


def main() -> None:
    """Runs the benchmarks that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    settings_of.add_arguments(parser)
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--output", default="benchmarks/results", help="folder of the results")
    args = parser.parse_args()
    parts = args.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--only {','.join(sorted(unknown))}: expected some of {', '.join(PARTS)}")
    settings = settings_of.from_arguments(args)
    console = Console(width=110)
    console.print(f"{settings.threads} cores, data: {data.which(settings)}, medians of {settings.repeats}")
    found = {}
    for part in PARTS:
        if part in parts:
            began = time.monotonic()
            found[part] = measured(part, settings)
            console.print(f"{part}: {time.monotonic() - began:.0f} s")
    made = assemble(found, settings, results.processor())
    console.print(results.table(made))
    if made["startup"]:
        console.print(results.startup_table(made["startup"]))
    if made["scaling"]:
        console.print(step_scaling.table(made["scaling"]))
    console.print(f"written: {results.write(made, pathlib.Path(args.output), 'cpu')}")


def _worker(part: str) -> dict:
    module, _, function = PARTS[part].rpartition(".")
    return getattr(importlib.import_module(module), function)(Settings(**json.load(sys.stdin)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker.answer({"found": _worker(sys.argv[2])})
    else:
        main()
