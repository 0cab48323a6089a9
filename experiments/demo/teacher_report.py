"""`distill-jax demo --with-teacher`: runs it, prints the table, and writes report.html and results.json."""

import dataclasses
import json
import logging
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.table import Table

from distill_jax.evaluation import html
from distill_jax.experiments.console import console
from distill_jax.experiments.demo import students
from distill_jax.experiments.demo.main import checked_folder
from distill_jax.experiments.demo.with_teacher import STUDENTS, Settings, compare
from distill_jax.teachers.report import TITLES

COLUMNS = ("", "trained on", "needs at test time", "accuracy", "seconds")


def _needs(parameters: int, gives: str) -> str:
    return f"{parameters / 1e6:.2f}M parameters, {gives}"


def table_rows(figures: Mapping[str, Any]) -> list[list[str]]:
    """A row of the table for the teacher and for each student, `COLUMNS` wide; seconds are medians."""
    teacher = figures["teacher"]
    needs = _needs(teacher["parameters"], "reason, label")
    accuracy, seconds = f"{teacher['accuracy']:.1%}", f"{teacher['seconds']:.0f}"
    rows = [["teacher", "reference labels, rationales", needs, accuracy, seconds]]
    for student in STUDENTS:
        runs = [run for run in figures["runs"] if run["method"] == student.method]
        accuracies = [run["accuracy"] for run in runs]
        accuracy = f"{np.mean(accuracies):.1%}"
        if len(runs) > 1:
            accuracy += f" ({' / '.join(f'{100 * each:.1f}' for each in accuracies)})"
        needs = _needs(runs[0]["parameters"], students.METHODS[student.method].at_test_time)
        seconds = f"{np.median([run['seconds'] for run in runs]):.0f}"
        rows.append([student.method, student.trained_on, needs, accuracy, seconds])
    return rows


def annotation_line(figures: Mapping[str, Any]) -> str:
    """What the teacher was asked, and how right it was."""
    asked = figures["annotation"]
    accuracy = asked["accuracy"]
    return (
        f"Teacher calls over HTTP: {asked['calls']:,}, for {asked['rows']:,} rows, "
        f"{asked['answered']:,} of them with an answer; {asked['seconds']:.0f} s with starting up. "
        f"Its labels agree with the reference labels on {accuracy['value']:.1%} of these rows (95% interval "
        f"{accuracy['low']:.1%} to {accuracy['high']:.1%}); it was trained on them, and not on the test rows."
    )


def report(figures: Mapping[str, Any], settings: Settings, seeds: int) -> str:
    """The page, as HTML."""
    shown = [
        part
        for kind, rows in figures["annotation"]["shown"].items()
        for part in (
            html.heading(TITLES[kind]),
            html.table(
                ["row", "input", "reference", "completion"],
                [[row["id"], row["input"], row["reference"] or "", row["completion"]] for row in rows],
            ),
        )
    ]
    return html.page(
        "A teacher, and students distilled from it",
        [
            html.paragraph(
                f"A T5 is trained on the generated task `{settings.task}`, served over HTTP, and asked for the "
                f"label, the reason and the class probabilities of {settings.rows:,} rows. Smaller students "
                "learn from its answers, step by step or by its probabilities; one learns from the "
                f"reference labels of the same rows. Each takes {settings.steps} steps of about the same "
                "number of rows. Those of step-by-step cost more: it reads every input twice and writes the "
                "rationale. "
                f"{seeds} seed(s); accuracy on 1,000 test examples."
            ),
            html.table(COLUMNS, table_rows(figures)),
            html.paragraph(annotation_line(figures)),
            *shown,
            html.heading("Settings"),
            html.code(json.dumps(dataclasses.asdict(settings), indent=2)),
            html.paragraph("To repeat it:"),
            html.code(f"distill-jax demo --with-teacher --task {settings.task} --seeds {seeds}"),
        ],
    )


def run(task: str, seeds: int, output: str) -> int:
    """Runs the comparison and delivers it; the exit status.

    Raises:
      UserError: see `main.checked_folder` and `with_teacher.compare`.
    """
    folder = checked_folder(task, seeds, output)
    settings = Settings(task=task)
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax logs every file it opens
    shown, began = console(), time.monotonic()

    def say(text: str) -> None:
        shown.print(text, highlight=False, markup=False, soft_wrap=True)

    figures = compare(settings, range(seeds), folder / "runs", say)
    table = Table(title="Label accuracy on 1,000 test examples")
    for column in COLUMNS:
        table.add_column(column)
    for row in table_rows(figures):
        table.add_row(*row)
    shown.print(table)
    say(annotation_line(figures))
    written = {"task": settings.task, "settings": dataclasses.asdict(settings), **figures}
    (folder / "results.json").write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    (folder / "report.html").write_text(report(figures, settings, seeds), encoding="utf-8")
    say(f"\n{folder}/report.html and {folder}/results.json: {time.monotonic() - began:.0f} s")
    return 0
