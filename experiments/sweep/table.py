"""What a sweep found: results.json, and the table of methods by share of the data."""

import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from distill_jax import files
from distill_jax.config.json_types import require_known
from distill_jax.errors import UserError
from distill_jax.evaluation.significance import seeds_interval
from distill_jax.experiments import floors, results
from distill_jax.experiments.console import console
from distill_jax.experiments.sweep.grid import Sweep
from distill_jax.experiments.sweep.results import read_result
from distill_jax.tasks.resolve import resolve

FLOORS = "floors.json"
Records = Sequence[Mapping[str, Any]]


def accuracy(record: Mapping[str, Any]) -> float:
    """The share of the test rows that a cell's student has right."""
    return record["test"]["right"] / record["test"]["total"]


def _split(record: Mapping[str, Any]) -> str:
    return record["test"].get("split", "test")


def line(record: Mapping[str, Any]) -> str:
    """A line on a finished cell."""
    values = ", ".join(f"{name} {value}" for name, value in record["chosen"].items())
    validation = record["validation"]["right"] / max(record["validation"]["total"], 1)
    figures = f"validation {validation:.1%}, "
    if _split(record) != "validation":  # which stands in for test where the data has none
        figures += f"{_split(record)} {accuracy(record):.1%}, "
    figures += f"{record['search_seconds']:.0f} s"
    return f"{record['name']}: {figures}" + (f", {values}" if values else "")


def deliver(sweep: Sweep, root: pathlib.Path, failures: Mapping[str, str]) -> bool:
    """Writes results.json of all cells, and prints the table of the finished ones; False where there are none.

    `failures` says of cells by their names why they have no result.
    """
    records = _records(sweep, root, failures)
    found = _finished(records)
    print(f"{len(found)} of {len(sweep.cells)} cells are finished")
    if not found:
        print(f"no table, and no {root}/results.json: they are written once a cell is finished")
        return False
    if len({record["test_fingerprint"] for record in found}) > 1:
        print("warning: these cells were scored on different rows (test_fingerprint): do not compare them")
    rules = _floors(sweep, found, root)
    _write(records, rules, root)
    columns, rows = table(found, rules, planned=len({record["seed"] for record in records}))
    test = found[0]["test"]
    rows_of = f"{test['total']:,} {test['split']} rows"
    shown = Table(title=f"{found[0]['task']}, label accuracy on {rows_of}", caption=how(found))
    for column in columns:
        shown.add_column(column, justify="left" if column == columns[0] else "right")
    for row in rows:
        shown.add_row(*row)
    screen = console()
    screen.print(shown)
    screen.print(f"{root}/results.json", highlight=False, soft_wrap=True)
    return True


def write(sweep: Sweep, root: pathlib.Path) -> None:
    """Writes results.json of what is finished so far, with the floors measured so far; nothing without any."""
    records = _records(sweep, root, {})
    if found := _finished(records):
        _write(records, _kept(root, found[0]["test_fingerprint"])["floors"], root)


def _records(sweep: Sweep, root: pathlib.Path, failures: Mapping[str, str]) -> list[dict[str, Any]]:
    """The record of each cell; of an unfinished one why it has none."""
    return [
        read_result(cell, root)
        or {"name": cell.name, **cell.place(), "error": failures.get(cell.name, "not finished")}
        for cell in sweep.cells
    ]


def _finished(records: Records) -> list[Mapping[str, Any]]:
    return [record for record in records if "test" in record]


def _write(records: Records, rules: Records, root: pathlib.Path) -> None:
    results.write(root / "results.json", {"split": "test", "cells": records, "floors": rules})


def _floors(sweep: Sweep, found: Records, root: pathlib.Path) -> list[dict[str, Any]]:
    """`floors.measure` of each share and seed, with `seed`; kept in a file: a regression takes seconds."""
    path, config = root / FLOORS, sweep.cells[0].config()
    kept = _kept(root, found[0]["test_fingerprint"])
    known = {(each["share"], each["seed"]) for each in kept["floors"]}
    limit = sweep.cells[0].evaluation.get("eval_examples")
    try:
        task = resolve(config).task
        for share, seed in sorted({(each["fraction"], each["seed"]) for each in found} - known):
            (measured,) = floors.measure(task, "test", [share], seed, limit)
            kept["floors"].append({"seed": seed, **measured})
    except UserError as error:
        print(f"no floors: {error}")
    files.write_text(path, json.dumps(kept, indent=2) + "\n")
    return kept["floors"]


def _kept(root: pathlib.Path, fingerprint: str) -> dict[str, Any]:
    """The floors in their file of these test rows; where it is damaged, they are measured again."""
    nothing = {"fingerprint": fingerprint, "floors": []}
    try:
        kept = files.read_json(root / FLOORS)
        require_known(kept, {"fingerprint": str, "floors": list[dict[str, Any]]})
        for each in kept["floors"]:
            require_known(each, {"share": float, "seed": int, "accuracies": dict[str, dict[str, Any]]})
            for accuracy in each["accuracies"].values():
                require_known(accuracy, {"value": float})
    except UserError:
        return nothing
    return kept if kept["fingerprint"] == fingerprint else nothing


def table(cells: Records, rules: Records, planned: int) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: means over the seeds by share of the data, with 95% intervals; then floors and teacher.

    Args:
      cells: the records of finished cells.
      rules: what `floors.measure` found, of each share and seed.
      planned: the number of seeds; a cell of the table with fewer says so.
    """
    shares = sorted({each["fraction"] for each in cells})
    examples = {each["fraction"]: each["train_examples"] for each in cells}
    columns = [f"{_split(cells[0])} accuracy", *(f"{share:.4g} ({examples[share]:,} rows)" for share in shares)]
    kinds = dict.fromkeys((each["method"], each["model"], each["label_source"]) for each in cells)
    several = [len({kind[place] for kind in kinds}) > 1 for place in range(3)]
    rows = []
    for kind in kinds:
        words = [kind[0], *(word for word, many in zip(kind[1:], several[1:], strict=True) if many)]
        own = [each for each in cells if (each["method"], each["model"], each["label_source"]) == kind]
        by_share = ([each for each in own if each["fraction"] == share] for share in shares)
        rows.append([", ".join(words), *(_cell(records, planned) for records in by_share)])
    for name in dict.fromkeys(name for each in rules for name in each["accuracies"]):
        by_share = (
            [each["accuracies"][name]["value"] for each in rules if each["share"] == share] for share in shares
        )
        rows.append([name, *(f"{statistics.fmean(values):.1%}" if values else "" for values in by_share)])
    return columns, rows


def _cell(records: Records, planned: int) -> str:
    if not records:
        return ""
    accuracies, test = [accuracy(each) for each in records], records[0]["test"]
    low, high = (100 * end for end in seeds_interval(accuracies, test["right"], test["total"]))
    seeds = f", {len(records)} of {planned} seeds" if len(records) < planned else ""
    mean = 100 * statistics.fmean(accuracies)
    return f"{mean:.1f}% ({low:.1f} to {high:.1f}{seeds})"


def how(records: Records) -> str:
    """What the intervals are, and by what the searched values were chosen."""
    seeds = len({each["seed"] for each in records})
    searched = ", ".join(dict.fromkeys(name for each in records for name in each["chosen"]))
    chosen = f"; {searched} chosen on validation in each cell" if searched else ""
    if seeds > 1:
        return f"means of {seeds} seeds, Student's 95% intervals; of one seed Wilson's over the rows{chosen}"
    return f"one seed, with Wilson's 95% intervals over the test rows{chosen}"
