"""Figures of the teacher's quality, counted row by row."""

import collections
import hashlib
import random
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from distill_jax.data.labels import place_of
from distill_jax.teachers.limits import Spent
from distill_jax.teachers.quality import PROBLEMS, Verdict
from distill_jax.teachers.rows import Rows
from distill_jax.teachers.store import used

Lines = Sequence[Mapping[str, Any]]  # of the store
_SHOWN = 5  # samples of each kind in a report


class Figures:
    """Counts over judged rows, in memory that does not grow with their number; see `summary`."""

    def __init__(self, rows: Rows, seed: int = 0):
        self._same, self._options, self._random = rows.same, rows.options, random.Random(seed)
        self._counts: collections.Counter = collections.Counter()
        self._problems: collections.Counter = collections.Counter()
        self._words: collections.Counter = collections.Counter()  # number of words of a rationale
        self._spent, self._agreement = Spent(), 0.0
        self._shown: dict[str, list[tuple[int, dict]]] = {}
        # On the disk, so that memory does not grow with the rows; the file goes with the connection.
        self._seen = sqlite3.connect("")
        self._seen.execute("CREATE TABLE seen (id BLOB PRIMARY KEY) WITHOUT ROWID")

    def add(self, verdict: Verdict, lines: Lines) -> None:
        """Counts a row."""
        example, counts = verdict.example, self._counts
        counts["rows"] += 1
        counts["samples"] += len(verdict.samples)
        counts["annotated"] += bool(verdict.samples)
        counts["answered"] += example.teacher_label is not None
        counts["with_label_probs"] += example.label_probs is not None
        self._problems.update(sample.problem for sample in verdict.samples if sample.problem)
        if verdict.agreement is not None:
            self._agreement += verdict.agreement
            if example.rationale is not None:
                self._words[len(example.rationale.split())] += 1
        repeated = bool(lines) and self._is_repeated(example.id)
        counts["repeated"] += repeated
        for line in () if repeated else lines:
            self._spent = self._spent.plus(used(line))
            counts["unpriced"] += line.get("requests", 0) > 0 and line.get("usd") is None
        options = self._options(example)
        for line, sample in zip(lines, verdict.samples, strict=False):
            unusable = not line.get("tokens") or (options and sample.label is not None and not sample.probs)
            counts["without_logprobs"] += bool(line["sampling"].get("logprobs")) and bool(unusable)
        kind = "unanswered" if example.teacher_label is None else "answered"
        if example.label is not None and options:
            counts["reference_of_no_class"] += place_of(example.label, options) < 0
        if example.label is not None and verdict.samples:
            counts["with_reference"] += 1
            right = example.teacher_label is not None and self._same(example.label, example.teacher_label)
            counts["right"] += right
            written = [s.written for s in verdict.samples if s.written is not None]
            counts["right_as_written"] += bool(written) and self._same(example.label, written[0])
            kind = kind if example.teacher_label is None else ("right" if right else "wrong")
        if verdict.samples:
            self._show(kind, verdict)

    def _is_repeated(self, name: str) -> bool:
        """Whether a row of this id came before: its completions are paid once."""
        digest = hashlib.blake2b(name.encode(), digest_size=12).digest()
        return not self._seen.execute("INSERT OR IGNORE INTO seen VALUES (?)", (digest,)).rowcount

    def _show(self, kind: str, verdict: Verdict) -> None:
        """Shows each row of a kind with the same probability: reservoir sampling (Vitter 1985)."""
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
            "reference": example.label,
            "teacher": example.teacher_label,
            "completion": verdict.samples[0].text,
        }
        shown[place : place + 1] = [(seen, row)]

    def problems_in_words(self) -> str:
        """The problems of all samples, the commonest first; "" without any."""
        return ", ".join(f"{count} {PROBLEMS[name]}" for name, count in self._problems.most_common())

    def summary(self) -> dict[str, Any]:
        """The figures, as JSON has them; shares are of the rows with completions."""
        counts = self._counts
        names = ("rows", "annotated", "answered", "with_label_probs", "samples")
        return {
            **{name: counts[name] for name in names},
            "accuracy": self._accuracy(),
            "problems": {name: count / counts["samples"] for name, count in sorted(self._problems.items())},
            "without_logprobs": counts["without_logprobs"],
            "repeated": counts["repeated"],
            "reference_of_no_class": counts["reference_of_no_class"],
            "self_consistency": self._agreement / counts["answered"] if counts["answered"] else None,
            "rationale_words": _quantiles(self._words),
            "requests": self._spent.requests,
            "tokens": self._spent.tokens,
            "usd": None if counts["unpriced"] else self._spent.usd,
            "shown": {kind: [row for _, row in rows] for kind, rows in sorted(self._shown.items())},
        }

    def _accuracy(self) -> dict[str, Any] | None:
        """Against the reference labels, with Wilson's 95% interval; None without reference labels."""
        counts = self._counts
        if not counts["with_reference"]:
            return None
        from scipy.stats import binomtest  # a second to import

        share = binomtest(counts["right"], counts["with_reference"])
        low, high = share.proportion_ci(0.95, method="wilson")
        return {
            "rows": counts["with_reference"],
            "value": counts["right"] / counts["with_reference"],
            "low": float(low),
            "high": float(high),
            "first_sample_as_written": counts["right_as_written"] / counts["with_reference"],
        }


def _quantiles(counts: collections.Counter) -> dict[str, float] | None:
    """Mean, median and 95th percentile of counted values."""
    total = counts.total()
    if not total:
        return None
    quantiles, seen = {}, 0
    for value in sorted(counts):
        seen += counts[value]
        for name, share in (("median", 0.5), ("p95", 0.95)):
            if name not in quantiles and seen >= share * total:
                quantiles[name] = value
    return {"mean": sum(value * count for value, count in counts.items()) / total, **quantiles}
