"""Two files of predictions on the same examples, compared row by row."""

import collections
import dataclasses
import itertools
import pathlib
from typing import Any

from distill_jax.data.sources import read_jsonl
from distill_jax.data.sources.columns import CONTENT_ID
from distill_jax.errors import UserError
from distill_jax.evaluation.significance import Comparison, compare

# What a row of predictions may have beside its `id` and `correct`.
TEXTS = ("input", "label", "teacher_label", "rationale", "predicted_label", "predicted_rationale")


def read_predictions(path: str) -> dict[str, dict[str, Any]]:
    """The rows of a file that `distill-jax eval` wrote, by id; equal rows without an id are numbered.

    Raises:
      UserError: naming the line, for a row without `id` or `correct`, or an id that comes twice.
    """
    rows: dict[str, dict[str, Any]] = {}
    repeats = collections.Counter()
    for number, row in read_jsonl(pathlib.Path(path)):
        where = f"{path}, line {number}"
        if not isinstance(row.get("id"), str) or not isinstance(row.get("correct"), bool):
            raise UserError(
                f"{where}: expected `id` and `correct`, as `distill-jax eval` writes for rows with a "
                "reference label"
            )
        if odd := [n for n in TEXTS if not isinstance(row.get(n), str | None)]:
            raise UserError(f"{where}: expected text in {odd[0]!r}, got {row[odd[0]]!r:.60}")
        if not isinstance(row.get("teacher_correct"), bool | None):
            raise UserError(f"{where}: expected true or false in 'teacher_correct'")
        name = row["id"]
        repeats[name] += 1
        if repeats[name] > 1:
            if not CONTENT_ID.fullmatch(name):
                raise UserError(f"{where}: the id {name!r} comes twice in this file")
            name = f"{name}, {repeats[name]}"  # equal rows without an id of their own
        rows[name] = row
    if not rows:
        raise UserError(f"{path}: no rows in this file")
    return rows


def compare_files(first: str, second: str, *, resamples: int, seed: int) -> dict[str, Any]:
    """Figures of `significance.Comparison`, with `rows`, `accuracies` and the files.

    Raises:
      UserError: when the files are not of the same examples.
    """
    one, two = (
        {name: row["correct"] for name, row in read_predictions(path).items()} for path in (first, second)
    )
    for path, own, others in ((first, one, two), (second, two, one)):
        missing = next(itertools.filterfalse(own.__contains__, others), None)
        if missing is not None:
            raise UserError(f"{path}: no row with the id {missing!r}: both files must be of the same examples")
    result: Comparison = compare(
        list(one.values()), [two[name] for name in one], resamples=resamples, seed=seed
    )
    accuracies = [sum(each.values()) / len(each) for each in (one, two)]
    return {"files": [first, second], "rows": len(one), "accuracies": accuracies, **dataclasses.asdict(result)}
