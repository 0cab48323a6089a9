"""The tables of a report, and the test rows side by side."""

import collections
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distill_jax.data.labels import meant
from distill_jax.evaluation import html
from distill_jax.experiments.report.cells import Cells, accuracy_words, p_words
from distill_jax.experiments.report.runs import RULES, Run
from distill_jax.experiments.report.tables import Table
from distill_jax.scoring.calibration import expected_calibration_error
from distill_jax.scoring.classes import class_report, confusion_matrix

MOST_CLASSES = 12
SHOWN = 4  # test rows of each kind
_FOLDED = 24  # rows of a table that are shown at once

Rows = Mapping[str, Mapping[str, Any]]


def methods(cells: Cells) -> Table:
    """Accuracy of each method and network by number of training rows; the rules below."""
    several = len(cells.models) > 1
    rows = []
    for arm in cells.arms:
        for model in cells.models:
            present = [cells.of(arm, model, size) for size in cells.sizes]
            if any(present):
                words = [accuracy_words(cells, cell) if cell else "not run" for cell in present]
                rows.append([arm, *([model] if several else []), *words])
    for name in cells.rule_names:
        values = [cells.rule(name, size) for size in cells.sizes]
        words = ["-" if value is None else f"{value:.1%}" for value in values]
        rows.append([RULES[name], *(["none"] if several else []), *words])
    columns = ["method", *(["network"] if several else []), *map(cells.size_name, cells.sizes)]
    caption = (
        "Label accuracy with its 95% interval: Student's over the seeds; of one seed Wilson's over the rows"
    )
    return Table("methods", caption, columns, rows)


def tests(cells: Cells) -> Table:
    """Paired tests between the methods, in each cell."""
    found = cells.tests()
    rows = [
        [t.first, t.second, t.model, cells.size_name(t.size), f"{100 * t.difference:+.1f}", p_words(t.p), t.how]
        for t in found
    ]
    done = sum(pair.p is not None for pair in found)
    caption = f"Paired tests: second minus first in points of accuracy; {done} tests, p not corrected for that"
    columns = ["first", "second", "network", "training rows", "difference", "p", "test"]
    return Table("tests", caption, columns, rows, folded=len(rows) > _FOLDED)


def all_runs(cells: Cells) -> Table:
    """Every run, with what was chosen for it."""

    def word(value: Any, form: str) -> str:
        return "-" if value is None else format(value, form)

    rows = [
        [
            run.arm,
            run.model_name,
            cells.size_name(cells.size_of(run)),
            str(run.seed),
            f"{run.accuracy:.1%}",
            word(run.learning_rate, "g"),
            word(run.steps, ",d"),
            word(run.device_seconds and round(run.device_seconds), ",d"),
            run.source,
        ]
        for run in cells.students
    ]
    columns = ["method", "network", "training rows", "seed", "accuracy", "rate", "step", "seconds", "read from"]
    return Table("runs", "All runs", columns, rows, folded=len(rows) > _FOLDED)


def classes_of(runs: Sequence[Run]) -> list[str]:
    """The labels of the test rows in alphabetical order; [] where there are too many to be classes."""
    rows = next((run.rows for run in runs if run.rows), {})
    labels = sorted({row["label"] for row in rows.values() if row.get("label") is not None})
    return labels if len(labels) <= MOST_CLASSES else []


def confusions(by_arm: Mapping[str, Sequence[Run]], classes: Sequence[str]) -> list[Table]:
    """The confusion matrix of each method, its seeds counted together, with recall and precision."""
    found = []
    for number, (arm, runs) in enumerate(by_arm.items(), 1):
        pairs = [(row["label"], row.get("predicted_label")) for run in runs for row in run.rows.values()]
        counts = confusion_matrix(*zip(*pairs, strict=True), classes)
        report = class_report(counts, classes)
        rows = [
            [name, *(f"{count:,}" for count in line), f"{report[name]['recall']:.1%}"]
            for name, line in zip(classes, counts.tolist(), strict=True)
        ]
        rows.append(["precision", *(f"{report[name]['precision']:.1%}" for name in classes), "", ""])
        caption = f"Confusion of {arm}: reference labels in rows, predictions in columns, {len(runs)} run(s)"
        columns = ["reference", *classes, "no class", "recall"]
        found.append(Table(f"confusion-{number}", caption, columns, rows))
    return found


def confidences(by_arm: Mapping[str, Sequence[Run]]) -> dict[str, tuple[list[float], list[bool]]]:
    """(confidences, whether right) of each method whose predictions state a confidence."""
    found = {}
    for arm, runs in by_arm.items():
        rows = [row for run in runs for row in run.rows.values()]
        if all("label_confidence" in row for row in rows):
            found[arm] = [row["label_confidence"] for row in rows], [row["correct"] for row in rows]
    return found


def calibration_errors(confident: Mapping[str, tuple[list[float], list[bool]]]) -> Table:
    """Expected calibration error of each method."""
    rows = [
        [arm, f"{statistics.fmean(stated):.1%}", f"{statistics.fmean(right):.1%}"]
        + [f"{expected_calibration_error(stated, right):.3f}"]
        for arm, (stated, right) in confident.items()
    ]
    caption = "Expected calibration error, 15 bins (Guo et al. 2017)"
    return Table("calibration", caption, ["method", "mean confidence", "accuracy", "calibration error"], rows)


def slices(by_arm: Mapping[str, Sequence[Run]], classes: Sequence[str]) -> Table:
    """Accuracy of each method on parts of the test rows: by words of the input, class, and the teacher."""
    rows = next(iter(by_arm.values()))[0].rows
    parts: dict[str, list[str]] = collections.defaultdict(list)
    lengths = {name: len(str(row.get("input", "")).split()) for name, row in rows.items()}
    for low, high in _quarters(list(lengths.values())):
        span = f"{low} to {high}" if low < high else f"{low}"
        parts[f"input of {span} words"] = [n for n, length in lengths.items() if low <= length <= high]
    for label in classes:
        parts[f"class {label}"] = [n for n, row in rows.items() if meant(row["label"], classes) == label]
    for name, row in rows.items():
        if "teacher_correct" in row:
            parts[f"teacher {'right' if row['teacher_correct'] else 'wrong'}"].append(name)
    table = []
    for part, names in sorted(parts.items(), key=lambda item: item[0].startswith("teacher")):
        shares = [
            statistics.fmean(run.rows[name]["correct"] for run in runs for name in names) if names else None
            for runs in by_arm.values()
        ]
        words = ["-" if share is None else f"{share:.1%}" for share in shares]
        table.append([part, f"{len(names):,}", *words])
    caption = "Accuracy on parts of the test rows, the seeds counted together"
    return Table("slices", caption, ["test rows", "number", *by_arm], table)


def _quarters(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Up to four ranges of length that hold about as many rows each, together all."""
    edges = sorted({int(np.quantile(lengths, share, method="lower")) for share in (0.25, 0.5, 0.75, 1.0)})
    return list(zip([min(lengths), *(edge + 1 for edge in edges[:-1])], edges, strict=True))


def cost(cells: Cells) -> Table:
    """What each cell took, beside its accuracy; means over the seeds."""

    def mean(runs: Sequence[Run], field: str, scale: float, form: str) -> str:
        known = [value for run in runs if (value := getattr(run, field)) is not None]
        return format(statistics.fmean(known) / scale, form) if known else "-"

    rows = []
    for model in cells.models:
        for size in cells.sizes:
            for arm in cells.arms:
                if runs := cells.of(arm, model, size):
                    spent = [
                        mean(runs, "parameters", 1.0, ",.0f"),
                        mean(runs, "flops", 1.0, ".2e"),
                        mean(runs, "device_seconds", 3600.0, ".3g"),
                        mean(runs, "asked", 1.0, ",.0f"),
                    ]
                    rows.append([arm, model, cells.size_name(size), *spent, f"{cells.mean(runs):.1%}"])
    columns = ["method", "network", "training rows", "parameters", "FLOPs", "device-hours", "teacher's rows"]
    caption = (
        "Cost of training one run, and accuracy; teacher's rows are those it had to answer; - is not known"
    )
    return Table("cost", caption, [*columns, "accuracy"], rows, folded=len(rows) > _FOLDED)


def side_by_side(by_arm: Mapping[str, Sequence[Run]]) -> list[str]:
    """Test rows of three kinds, as HTML: all methods right, some, none; with rationales where there are any."""
    chosen = {arm: _told(runs) for arm, runs in by_arm.items()}
    rows = next(iter(chosen.values()))
    reasoned = [n for n in rows if any("predicted_rationale" in each[n] for each in chosen.values())]
    kinds: dict[str, list[str]] = {"all methods right": [], "some methods right": [], "no method right": []}
    for name in reasoned or rows:
        right = [each[name]["correct"] for each in chosen.values()]
        kinds[list(kinds)[0 if all(right) else 1 if any(right) else 2]].append(name)
    parts = []
    if reasoned and len(reasoned) < len(rows):
        parts.append(html.paragraph(f"Of the {len(reasoned):,} rows whose rationale was predicted too."))
    for kind, names in kinds.items():
        if not names:
            continue
        parts.append(html.heading(f"{kind.capitalize()}: {min(SHOWN, len(names))} of {len(names):,} rows", 3))
        for name in names[:SHOWN]:
            pairs = [("row", name), ("input", rows[name].get("input", "")), ("label", rows[name].get("label"))]
            for field, title in (("teacher_label", "teacher's label"), ("rationale", "teacher's rationale")):
                if rows[name].get(field) is not None:
                    pairs.append((title, rows[name][field]))
            for arm, each in chosen.items():
                mark = "right" if each[name]["correct"] else "wrong"
                pairs.append((f"{arm}: label, {mark}", each[name].get("predicted_label", "")))
                if "predicted_rationale" in each[name]:
                    pairs.append((f"{arm}: rationale", each[name]["predicted_rationale"]))
            parts.append(html.terms(pairs))
    return parts


def _told(runs: Sequence[Run]) -> Rows:
    """The predictions of the first run that wrote rationales, else of the first."""
    return max(runs, key=lambda run: any("predicted_rationale" in row for row in run.rows.values())).rows
