"""README's part about speed, and where the time goes in docs/benchmarks.md: `python -m benchmarks.page`.

Both are of the newest results of each processor.
"""

import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.results import UNITS
from distill_jax.experiments.results import replace_part

README, RESULTS = pathlib.Path("README.md"), pathlib.Path("benchmarks/results")
# Linux says no more of these processors than numbers.
NAMES = {"AMD EPYC, family 25, model 17": "EPYC (Zen 4)", "AMD EPYC, family 26, model 2": "EPYC (Zen 5)"}
MARKS = ("<!-- speed -->\n", "<!-- /speed -->")
DOCS = pathlib.Path("docs/benchmarks.md")
DECODE_MARKS = ("<!-- decode -->\n", "<!-- /decode -->")
STEP_MARKS = ("<!-- step -->\n", "<!-- /step -->")
# (part, ours, peer, what is measured, what the peer is, our goal) of each row of a processor
ROWS = (
    ("train", "ours", "reference", "training", "the paper's PyTorch computation", 2.0),
    ("train", "ours", "t5x_packed", "training", "T5X, its network and its packing", 2.2),
    ("train", "ours", "t5x_our_packing", "training", "T5X on our packed batches", None),
    ("train", "ours_shared_encoding", "reference", "with `step_by_step_shared`", "the same PyTorch", 3.0),
    ("train_t5gemma", "ours", "reference", "training T5Gemma small", "transformers' T5Gemma in PyTorch", 1.8),
    ("train_t5gemma", "ours_shared_encoding", "reference", "its `step_by_step_shared`", "the same", 1.8),
    ("decode_labels", "ours", "transformers", "labels decoded", "transformers' `generate`", 2.5),
    ("decode_labels", "ours", "ctranslate2_float32", "labels decoded", "CTranslate2, float32", 1.2),
    ("decode_labels", "ours", "ctranslate2_int8", "labels decoded", "CTranslate2, int8", None),
    ("decode_rationales", "ours", "transformers", "rationales decoded", "transformers' `generate`", 2.5),
    ("decode_rationales", "ours", "ctranslate2_float32", "rationales decoded", "CTranslate2, float32", 1.2),
    ("decode_rationales", "ours", "ctranslate2_int8", "rationales decoded", "CTranslate2, int8", None),
    ("prepare", "ours", "seqio", "`prepare`", "SeqIO's tokenize and pack", 5.0),
)
HEAD = """| | processor | distill_jax | peer | times as fast | our goal |
| --- | --- | ---: | --- | ---: | ---: |"""
TEXT = """T5 1.1 small, float32, CQA with PaLM's rationales; medians, with the share of the library's own
matrix peak that the useful work comes to, padding not counted ([how](docs/benchmarks.md)):

{table}

A pair is the label and the rationale of a row. transformers and CTranslate2 in float32 write the same tokens.

{processors}
"""


def newest(folder: pathlib.Path = RESULTS) -> list[tuple[pathlib.Path, dict[str, Any]]]:
    """(file, results) of each processor, the newest of those that have rates."""
    by_device: dict[str, tuple[pathlib.Path, dict[str, Any]]] = {}
    for path in sorted(folder.glob("*-cpu.json")):
        results = json.loads(path.read_text())
        if any(results.get(part) for part in UNITS):
            by_device[results["device"]] = path, results
    return list(by_device.values())


def _rate(found: Mapping[str, Any], name: str, unit: str) -> str:
    share = found.get("share_of_peak", {}).get(name)
    return f"{_short(found[name]['median'])} {unit}" + ("" if share is None else f" ({share:.0%})")


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _rows(files: Sequence[tuple[pathlib.Path, Mapping[str, Any]]]) -> Iterator[str]:
    for part, ours, peer, what, who, goal in ROWS:
        for _, results in files:
            found = results.get(part)
            if not found or not found.get(ours) or not found.get(peer):
                continue
            ratio, unit = found[ours]["median"] / found[peer]["median"], UNITS[part]
            aim = "" if goal is None else f"{goal:g}" + ("" if ratio >= goal else ", missed")
            rates = f"{_rate(found, ours, unit)} | {who} {_rate(found, peer, unit)}"
            yield f"| {what} | {_name(results)} | {rates} | {ratio:.2f} | {aim} |"


def _name(results: Mapping[str, Any]) -> str:
    return NAMES.get(results["device"], results["device"])


def _processor(path: pathlib.Path, results: Mapping[str, Any]) -> str:
    """A processor's peaks and start-up, and how much of a ratio to PyTorch its product is."""
    text = f"{_name(results)}, {results['cores']} cores ([results]({path.as_posix()})): "
    peaks = {name: peak for name, peak in (results.get("peaks") or {}).items() if peak}
    if len(peaks) == 2:
        text += (
            f"float32 products reach {peaks['jax'] / 1e9:,.0f} GFLOP/s in XLA and {peaks['torch'] / 1e9:,.0f} "
        )
        text += f"in PyTorch: of a ratio to PyTorch {peaks['jax'] / peaks['torch']:.2f} is the library's own; "
    else:
        text += "the matrix peaks were not measured; "
    startup = results.get("startup") or {}
    seconds = {name: one["seconds"]["median"] for name, one in startup.items() if one}
    told = {
        "first_step": "the first step with its compilation takes {:.1f} s",
        "train_again": "`train` is at its first step {:.1f} s after the command, the second time",
        "infer_again": "a line through `infer` takes {:.1f} s",
        "xl_compile": "compiling XL's step (2.8B parameters, scanned) {:.1f} s",
    }
    parts = [form.format(seconds[name]) for name, form in told.items() if name in seconds]
    return (text + ", ".join(parts)).rstrip("; ") + "."


def readme(folder: pathlib.Path = RESULTS) -> str:
    """README's part, without the marks."""
    files = newest(folder)
    table = "\n".join([HEAD, *_rows(files)])
    return TEXT.format(table=table, processors="\n\n".join(_processor(*one) for one in files))


def decoding(folder: pathlib.Path = RESULTS) -> str:
    """Where the time of ours goes in decoding, a column for each processor and what is decoded."""
    columns: dict[str, Mapping[str, float]] = {}
    for _, results in newest(folder):
        for part, what in (("decode_labels", "labels"), ("decode_rationales", "rationales")):
            found = (results.get(part) or {}).get("seconds_by_program", {}).get("ours")
            if found:
                columns[f"{what}, {_name(results)}"] = found
    return _by_row("seconds", columns)


def step(folder: pathlib.Path = RESULTS) -> str:
    """Where the time of our train step goes, a column for each processor."""
    columns, sentences = {}, []
    for _, results in newest(folder):
        if found := results.get("step_parts"):
            columns[_name(results)] = found["seconds"]
            rate = found["products_flops"] / found["seconds"]["products"]
            sentences.append(
                f"{_name(results)}: the products run at {rate / 1e9:,.0f} GFLOP/s, "
                f"{rate / results['peaks']['jax']:.0%} of the measured peak."
            )
    return _by_row("seconds of a step", columns) + "".join(f"\n{sentence}\n" for sentence in sentences)


def _by_row(first: str, columns: Mapping[str, Mapping[str, float]]) -> str:
    """A table of seconds, with their share of the row `all` or `step`."""
    if not columns:
        return "Not measured yet.\n"
    rows = list(dict.fromkeys(row for column in columns.values() for row in column))
    lines = [[first, *columns], ["---", *["---:"] * len(columns)]]
    lines += [[row, *(_share(column, row) for column in columns.values())] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _share(column: Mapping[str, float], row: str) -> str:
    whole = column.get("all", column.get("step"))
    return f"{column[row]:.2f} ({column[row] / whole:.0%})"


def main() -> None:
    """Writes both."""
    replace_part(README, MARKS, readme())
    replace_part(DOCS, DECODE_MARKS, decoding())
    replace_part(DOCS, STEP_MARKS, step())
    print(f"{README} and {DOCS}")


if __name__ == "__main__":
    main()
