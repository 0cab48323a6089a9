"""From the store to rows for `distill-jax train --data`, with figures of the teacher's quality."""

import collections
import json
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from distill_jax import files
from distill_jax.data.schema import Example
from distill_jax.errors import UserError
from distill_jax.teachers import parsing
from distill_jax.teachers.limits import Spent
from distill_jax.teachers.prompts import Template
from distill_jax.teachers.quality import Verdict, judge, problems, read_sample
from distill_jax.teachers.rows import Rows
from distill_jax.teachers.store import Store, used

Lines = Sequence[Mapping[str, Any]]
_SHOWN = 5  # samples of each kind in a report


def verdicts(
    rows: Rows,
    examples: Iterator[Example],
    completions: Callable[[Example], Lines],
    template: Template | None,
    checks: Sequence[str] = (),
) -> Iterator[tuple[Verdict, Lines]]:
    """The judged rows with the lines of the store that they come from.

    Args:
      rows: what is known of the labels.
      examples: to judge.
      completions: a row's lines of the store.
      template: of the prompt; None where it is not known.
      checks: see `quality.CHECKS`.
    """
    for example in examples:
        lines, options = completions(example), rows.options(example)
        samples = [read_sample(line, options, _label_text(template, example, line), checks) for line in lines]
        yield judge(example, samples, options, rows.same), lines


def _label_text(template: Template | None, example: Example, line: Mapping[str, Any]) -> Callable[[str], str]:
    if template is None:
        return str
    if line.get("tokens") and line["template"] != template.version:
        raise UserError(
            f"row {example.id}: its log-probabilities are of the prompt {line['template']}, not of "
            f"{template.version}: give that one with --prompt"
        )
    return lambda label: template.label_text(example, label, line["parser"] == parsing.JSON)


class Figures:
    """Counts over judged rows, in memory that does not grow with them; see `summary`."""

    def __init__(self, rows: Rows, seed: int = 0):
        self._same = rows.same
        self._random = random.Random(seed)
        self._counts: collections.Counter = collections.Counter()
        self._problems: collections.Counter = collections.Counter()
        self._words: collections.Counter = collections.Counter()
        self._spent = Spent()
        self._unpriced = 0
        self._agreement = 0.0
        self._shown: dict[str, list[tuple[int, dict]]] = {}

    def add(self, verdict: Verdict, lines: Lines) -> None:
        """Counts a row."""
        example, counts = verdict.example, self._counts
        counts["rows"] += 1
        counts["samples"] += len(verdict.samples)
        counts["annotated"] += bool(verdict.samples)
        counts["answered"] += example.teacher_label is not None
        self._problems.update(problems(verdict.samples))
        if verdict.agreement is not None:
            self._agreement += verdict.agreement
            self._words[len(example.rationale.split())] += 1
        for line in lines:
            self._spent = self._spent.plus(used(line))
            self._unpriced += line.get("requests", 0) > 0 and line.get("usd") is None
        kind = "unanswered" if example.teacher_label is None else "answered"
        if example.label is not None and verdict.samples:
            counts["gold"] += 1
            right = example.teacher_label is not None and self._same(example.label, example.teacher_label)
            counts["right"] += right
            written = [s.written for s in verdict.samples if s.written is not None]
            counts["right_as_written"] += bool(written) and self._same(example.label, written[0])
            kind = kind if example.teacher_label is None else ("right" if right else "wrong")
        if verdict.samples:
            self._keep(kind, verdict)

    def _keep(self, kind: str, verdict: Verdict) -> None:
        """Reservoir sampling (Vitter 1985): each row of a kind is shown with the same probability."""
        shown = self._shown.setdefault(kind, [])
        seen = self._counts[f"kind {kind}"]
        self._counts[f"kind {kind}"] += 1
        place = len(shown) if len(shown) < _SHOWN else self._random.randint(0, seen)
        if place >= _SHOWN:
            return
        example = verdict.example
        row = {
            "id": example.id,
            "input": example.input,
            "gold": example.label,
            "teacher": example.teacher_label,
            "completion": verdict.samples[0].text,
        }
        shown[place : place + 1] = [(seen, row)]

    def summary(self) -> dict[str, Any]:
        """The figures, as JSON has them; shares are of rows that have completions."""
        counts = self._counts
        accuracy = None
        if counts["gold"]:
            from scipy.stats import binomtest  # a second to import

            share = binomtest(counts["right"], counts["gold"])
            low, high = share.proportion_ci(0.95, method="wilson")
            accuracy = {
                "rows": counts["gold"],
                "value": counts["right"] / counts["gold"],
                "low": float(low),
                "high": float(high),
                "first_sample_as_written": counts["right_as_written"] / counts["gold"],
            }
        return {
            "rows": counts["rows"],
            "annotated": counts["annotated"],
            "answered": counts["answered"],
            "samples": counts["samples"],
            "accuracy": accuracy,
            "problems": {name: count / counts["samples"] for name, count in sorted(self._problems.items())},
            "self_consistency": self._agreement / counts["answered"] if counts["answered"] else None,
            "rationale_words": _quantiles(self._words),
            "requests": self._spent.requests,
            "tokens": self._spent.tokens,
            "usd": None if self._unpriced else self._spent.usd,
            "shown": {kind: [row for _, row in rows] for kind, rows in sorted(self._shown.items())},
        }


def _quantiles(counts: collections.Counter) -> dict[str, float] | None:
    """Mean, median and 95th percentile of counted values."""
    total = counts.total()
    if not total:
        return None
    found, seen = {}, 0
    for value in sorted(counts):
        seen += counts[value]
        for name, share in (("median", 0.5), ("p95", 0.95)):
            if name not in found and seen >= share * total:
                found[name] = value
    return {"mean": sum(value * count for value, count in counts.items()) / total, **found}


def row_of(verdict: Verdict) -> dict[str, Any] | None:
    """The row as `train --data` reads it; None for one that has neither a label nor a rationale."""
    example = verdict.example
    if example.label is None and example.teacher_label is None:
        return None
    fields = {
        "id": example.id,
        "input": example.input,
        "label": example.label,
        "teacher_label": example.teacher_label,
        "rationale": example.rationale,
        "label_probs": None if example.label_probs is None else [round(p, 6) for p in example.label_probs],
        "choices": None if example.choices is None else list(example.choices),
        "agreement": verdict.agreement,
        "rationales": list(verdict.rationales) if len(verdict.rationales) > 1 else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def write_rows(
    path: str | os.PathLike, judged: Iterator[tuple[Verdict, Lines]], figures: Figures
) -> tuple[int, int]:
    """Writes JSON lines, whole or not at all; (rows written, rows left out for want of any label).

    Raises:
      UserError: when no row has a label, or the file cannot be written.
    """
    written = left = 0
    with files.atomic_write(path) as file:
        for verdict, lines in judged:
            figures.add(verdict, lines)
            row = row_of(verdict)
            if row is None:
                left += 1
                continue
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            written += 1
        if not written:
            raise UserError(f"{path}: nothing to write: none of the {left} rows has a label or an answer")
    return written, left


def only_setting(
    store: Store, model: str | None = None, template: str | None = None
) -> Callable[[Example], Lines]:
    """A row's lines in the store, of whatever model and prompt they are, so long as they are of one.

    Args:
      store: of the completions.
      model: only of this one.
      template: only of the prompts made with it, `NAME` or `NAME@HASH`.

    Raises (the function):
      UserError: when a row has completions of several settings.
    """

    def read(example: Example) -> Lines:
        lines = [
            line
            for line in store.read(example.id)
            if (model is None or line["model"] == model)
            and (
                template is None
                or template in (line.get("template"), str(line.get("template")).partition("@")[0])
            )
        ]
        if len({(line["prompt"], line["model"], json.dumps(line["sampling"])) for line in lines}) > 1:
            told = sorted(
                {f"{line['model']} with {line.get('template')}, {line['sampling']}" for line in lines}
            )
            raise UserError(
                f"{store.path}: row {example.id} has completions of several settings ({'; '.join(told)}): "
                "choose with --model or --template, or run annotate with the settings and --output"
            )
        return lines

    return read
