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
from distill_jax import files

# The contestants, and the unit of their rates. Each is in the results, None where it is not installed.
CONTESTANTS = {
    "train": ("ours", "ours_shared_encoding", "reference", "t5x_packed", "t5x_our_packing"),
    "train_t5gemma": ("ours", "ours_shared_encoding", "reference"),
    "decode_labels": ("ours", "transformers", "ctranslate2_float32", "ctranslate2_int8"),
    "decode_rationales": ("ours", "transformers", "ctranslate2_float32", "ctranslate2_int8"),
    "prepare": ("ours", "seqio", "sentencepiece"),
}
UNITS = {
    "train": "pairs/s",
    "train_t5gemma": "pairs/s",
    "decode_labels": "rows/s",
    "decode_rationales": "rows/s",
    "prepare": "examples/s",
}
# Whose matrix products a contestant makes; CTranslate2 offers none that could be measured alone.
LIBRARY = {name: "jax" for name in ("ours", "ours_shared_encoding", "t5x_packed", "t5x_our_packing")}
LIBRARY |= {"reference": "torch", "transformers": "torch"}
SAME = ("device", "cores", "versions", "data", "settings")
OTHERS = ("startup", "scaling", "step_parts", "memory", "peaks", "failed")
PACKAGES = ("jax", "jaxlib", "flax", "torch", "transformers", "ctranslate2", "seqio", "sentencepiece", "t5x")
PACKAGES += ("tensorflow",)


def rates(
    part: str, found: Mapping[str, Any] | None, peaks: Mapping[str, float | None] | None = None
) -> dict[str, Any] | None:
    """The rates of a benchmark in the form of the results; None for a part that was not run.

    Args:
      part: of `CONTESTANTS`.
      found: rates of each repetition by contestant, and other figures; `flops` of a unit of its work, without
        padding and recomputation, by contestant.
      peaks: of `peaks.run`, for `share_of_peak`: which share of its library's the work comes to.
    """
    if found is None:
        return None
    names = CONTESTANTS[part]
    summaries = {name: measure.summary(found.get(name)) for name in names}
    peers = {name: measure.ratio(summaries["ours"], summaries[name]) for name in names if name != "ours"}
    others = {name: value for name, value in found.items() if name not in names}
    shares = {
        name: float(f"{summaries[name]['median'] * flops / peak:.3g}")
        for name, flops in found.get("flops", {}).items()
        if summaries.get(name) and (peak := (peaks or {}).get(LIBRARY.get(name, "")))
    }
    return {"unit": UNITS[part], **summaries, "ours_against": peers, "share_of_peak": shares, **others}


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
    """The name of this machine's processor, with family and model: on rented machines it is only a brand."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = [line.partition(":") for line in info.read_text().splitlines()] if info.exists() else []
    told = {name.strip(): value.strip() for name, _, value in lines}
    if "model name" not in told:
        return platform.processor() or platform.machine()
    return f"{told['model name']}, family {told.get('cpu family')}, model {told.get('model')}"


def write(results: Mapping[str, Any], folder: pathlib.Path, device: str) -> pathlib.Path:
    """Writes `<date>-<device>.json`; the file.

    What is None in there is taken from the file that is there, where that is of the same machine, packages,
    data and settings: so each part of a run is added as it ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{datetime.date.today().isoformat()}-{device}.json"
    whole = dict(results)
    if path.exists():
        before = json.loads(path.read_text())
        if all(before.get(name) == whole.get(name) for name in SAME):
            kept = {name: value for name, value in before.items() if whole.get(name) is None}
            whole |= kept | {"failed": whole.get("failed")}  # of this run alone
    files.write_text(path, json.dumps(whole, indent=2, allow_nan=False) + "\n")
    return path


def table(results: Mapping[str, Any]) -> Table:
    """All rates: median, spread, share of the library's peak, memory, and how many times as fast ours is."""
    made = Table(
        "benchmark", "contestant", "median", "spread", "of peak", "memory", "ours against it", title="rates"
    )
    for part in CONTESTANTS:
        found = results.get(part)
        if found is None:
            made.add_row(part, "", (results.get("failed") or {}).get(part, "not run"))
            continue
        for name in CONTESTANTS[part]:
            one, ratio = found.get(name), found["ours_against"].get(name)
            if one is None:
                made.add_row(part, name, "not installed")
                continue
            median, spread = f"{one['median']:.4g} {found['unit']}", f"{one['spread']:.1%}"
            share, memory = (found.get(key, {}).get(name) for key in ("share_of_peak", "peak_gib"))
            shown = ("" if share is None else f"{share:.0%}", "" if memory is None else f"{memory:.2f} GiB")
            made.add_row(part, name, median, spread, *shown, "" if ratio is None else f"{ratio:.2f} x")
    peaks = {name: peak for name, peak in (results.get("peaks") or {}).items() if peak}
    if peaks:
        text = ", ".join(f"{name} {peak / 1e9:,.0f} GFLOP/s" for name, peak in peaks.items())
        made.caption = f"peak of float32 matrix products: {text}"
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
