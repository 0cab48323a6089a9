"""The results of a run: their form in JSON, and the table that is printed."""

import datetime
import importlib.metadata
import json
import pathlib
import platform
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from benchmarks import measure

# The contestants, and the unit of their rates. Each is in the results, None where it is not installed.
CONTESTANTS = {
    "train": ("ours", "ours_shared_encoding", "reference", "t5x_packed", "t5x_our_packing"),
    "train_t5gemma": ("ours", "ours_shared_encoding", "reference"),
    "decode_labels": ("ours", "transformers"),
    "decode_rationales": ("ours", "transformers"),
    "prepare": ("ours", "seqio", "sentencepiece"),
}
UNITS = {
    "train": "pairs/s",
    "train_t5gemma": "pairs/s",
    "decode_labels": "rows/s",
    "decode_rationales": "rows/s",
    "prepare": "examples/s",
}
OTHERS = ("startup", "scaling", "memory")
PACKAGES = ("jax", "jaxlib", "flax", "torch", "transformers", "seqio", "sentencepiece", "t5x", "tensorflow")


def rates(part: str, found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The rates of a benchmark in the form of the results; None for a part that was not run.

    Args:
      part: of `CONTESTANTS`.
      found: rates of each repetition by contestant, and other figures.
    """
    if found is None:
        return None
    names = CONTESTANTS[part]
    summaries = {name: measure.summary(found.get(name)) for name in names}
    peers = {name: measure.ratio(summaries["ours"], summaries[name]) for name in names if name != "ours"}
    others = {name: value for name, value in found.items() if name not in names}
    return {"unit": UNITS[part], **summaries, "ours_against": peers, **others}


def versions() -> dict[str, str | None]:
    """Of Python and the packages that matter; None for one that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def processor() -> str:
    """The name of this machine's processor."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def write(results: Mapping[str, Any], folder: pathlib.Path, device: str) -> pathlib.Path:
    """Writes `<date>-<device>.json`; the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{datetime.date.today().isoformat()}-{device}.json"
    path.write_text(json.dumps(results, indent=2, allow_nan=False) + "\n")
    return path


def table(results: Mapping[str, Any]) -> Table:
    """All rates: the median, the spread, and how many times as fast ours is."""
    made = Table("benchmark", "contestant", "median", "spread", "ours against it", title="rates")
    for part in CONTESTANTS:
        found = results.get(part)
        if found is None:
            made.add_row(part, "", "not run")
            continue
        for name in CONTESTANTS[part]:
            one, ratio = found[name], found["ours_against"].get(name)
            if one is None:
                made.add_row(part, name, "not installed")
                continue
            median, spread = f"{one['median']:.4g} {found['unit']}", f"{one['spread']:.1%}"
            made.add_row(part, name, median, spread, "" if ratio is None else f"{ratio:.2f} x")
    return made


def startup_table(found: Mapping[str, Any]) -> Table:
    """Seconds and peak memory of `startup`."""
    made = Table("part", "median seconds", "spread", "of the whole process", "peak memory", title="start-up")
    for part, one in found.items():
        if one is None:
            made.add_row(part, "not installed")
            continue
        seconds, whole = one["seconds"], one["process_seconds"]
        spread = f"{seconds['spread']:.1%}"
        peak = f"{one['peak_gib']:.2f} GiB"
        made.add_row(part, f"{seconds['median']:.3g}", spread, f"{whole['median']:.3g}", peak)
    return made
