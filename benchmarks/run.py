"""All benchmarks, ours beside the peers: `make bench`.

    python -m benchmarks.run [--full] [--only train,decode] [--repeats 5] [--rows 256]

Prints tables and writes `benchmarks/results/<date>-<device>.json`, each part as it ends: what fails or is
stopped loses nothing that was measured before. A peer that is not installed is null in there.
docs/benchmarks.md says how each is measured.
"""

import argparse
import dataclasses
import importlib
import json
import pathlib
import sys
import time
from collections.abc import Sequence

from rich.console import Console

from benchmarks import data, measure, results, step_scaling, worker
from benchmarks import settings as settings_of
from benchmarks.settings import Settings


@dataclasses.dataclass(frozen=True)
class Part:
    """A benchmark: its function, seconds for its rounds, and the minutes it takes (by default, with --full)."""

    function: str
    seconds: float
    minutes: tuple[float, float]


PARTS = {
    "peaks": Part("benchmarks.peaks.run", 0, (0.2, 0.2)),
    "train": Part("benchmarks.train_step.run", 240, (6, 14)),
    "decode": Part("benchmarks.decode_rates.run", 120, (4, 30)),
    "startup": Part("benchmarks.startup.run", 0, (3, 5)),
    "prepare": Part("benchmarks.prepare_peers.run", 30, (1, 2)),
    "scaling": Part("benchmarks.step_scaling.run", 30, (1, 2)),
    "step_parts": Part("benchmarks.step_parts.run", 0, (1, 2)),
    "train_t5gemma": Part("benchmarks.train_step.run_t5gemma", 600, (14, 30)),
}
LEFT_OUT = ("data_dir", "work", "seconds")  # of the settings in the results
ONLY_FULL = ("train_t5gemma",)


def measured(part: str, settings: Settings) -> dict:
    """What a benchmark finds, in a process of its own: none runs in memory that another has used.

    Raises RuntimeError when it fails.
    """
    if not settings.full:
        settings = dataclasses.replace(settings, seconds=min(settings.seconds, PARTS[part].seconds))
    job = dataclasses.asdict(settings)
    return worker.call("benchmarks.run", "--worker", part, stdin=job, tell=_indented)["found"]


def _indented(line: str) -> None:
    measure.tell(f"    {line}")


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


def assemble(
    found: dict[str, dict | None], settings: Settings, device: str, failed: dict[str, str] | None = None
) -> dict:
    """The results of the parts that were run, the others None; `failed` says why a part has none."""
    decode, peaks = found.get("decode") or {}, found.get("peaks")
    startup, memory = None, None
    if found.get("startup"):
        startup, memory = startup_results(found["startup"])
    return {
        "device": device,
        "cores": settings.threads,
        "versions": results.versions(),
        "data": data.which(settings),
        "settings": {k: v for k, v in dataclasses.asdict(settings).items() if k not in LEFT_OUT},
        "train": results.rates("train", found.get("train"), peaks),
        "train_t5gemma": results.rates("train_t5gemma", found.get("train_t5gemma"), peaks),
        "decode_labels": results.rates("decode_labels", decode.get("labels"), peaks),
        "decode_rationales": results.rates("decode_rationales", decode.get("rationales"), peaks),
        "prepare": results.rates("prepare", found.get("prepare")),
        "startup": startup,
        "scaling": found.get("scaling"),
        "step_parts": found.get("step_parts"),
        "memory": memory,
        "peaks": peaks,
        "failed": failed or None,
    }


def time_left(parts: Sequence[str], done: Sequence[str], spent: float, full: bool) -> float:
    """Minutes for the parts that are not done, if the machine stays as it was so far (`spent` minutes)."""
    expected = {part: PARTS[part].minutes[full] for part in parts}
    before = sum(expected[part] for part in done)
    return sum(expected[part] for part in parts if part not in done) * (spent / before if before else 1.0)


def run_parts(parts: Sequence[str], settings: Settings, folder: pathlib.Path, console: Console) -> dict:
    """Runs the parts, and writes the results after each; what they are at the end."""
    found, failed, began = {}, {}, time.monotonic()
    made: dict = {}
    for number, part in enumerate(parts):
        left = time_left(parts, parts[:number], (time.monotonic() - began) / 60, settings.full)
        console.print(f"{part}, {number + 1} of {len(parts)}; about {left:.0f} minutes left")
        started = time.monotonic()
        try:
            found[part] = measured(part, settings)
            if why := found[part].pop("failed", None):  # of some of its contestants
                failed[part] = why
        except RuntimeError as error:
            failed[part] = str(error)
        made = assemble(found, settings, results.processor(), failed)
        path = results.write(made, folder, "cpu")
        console.print(
            f"{part}: {failed.get(part, 'done')}, {time.monotonic() - started:.0f} s, written: {path}"
        )
    return made


def main() -> int:
    """Runs the benchmarks that are asked for; 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    settings_of.add_arguments(parser)
    parser.add_argument("--only", help=f"of {', '.join(PARTS)}; default all but {', '.join(ONLY_FULL)}")
    parser.add_argument("--output", default="benchmarks/results", help="folder of the results")
    args = parser.parse_args()
    usual = [part for part in PARTS if args.full or part not in ONLY_FULL]
    parts = args.only.split(",") if args.only else usual
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--only {','.join(sorted(unknown))}: expected some of {', '.join(PARTS)}")
    if "peaks" not in parts and {"train", "train_t5gemma", "decode"} & set(parts):
        parts = ["peaks", *parts]  # what their shares are of
    settings = settings_of.from_arguments(args)
    console = Console(width=120)
    rounds = f"{settings.repeats} rounds" + ("" if settings.full else " where they fit")
    console.print(f"{settings.threads} cores, data: {data.which(settings)}, {rounds}")
    made = run_parts([part for part in PARTS if part in parts], settings, pathlib.Path(args.output), console)
    console.print(results.table(made))
    if made["startup"]:
        console.print(results.startup_table(made["startup"]))
    if made["scaling"]:
        console.print(step_scaling.table(made["scaling"]))
    return 1 if made["failed"] else 0


def _worker(part: str) -> dict:
    module, _, function = PARTS[part].function.rpartition(".")
    return getattr(importlib.import_module(module), function)(Settings(**json.load(sys.stdin)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker.answer({"found": _worker(sys.argv[2])})
    else:
        sys.exit(main())
