"""A report: what is computed of some runs, as one page and as files beside it."""

import dataclasses
import pathlib
from collections.abc import Sequence

from distill_jax import files
from distill_jax.evaluation import html
from distill_jax.experiments.report import figures, sections
from distill_jax.experiments.report.cells import Cells
from distill_jax.experiments.report.runs import Input, aligned, check_same_test, told_apart, with_constant
from distill_jax.experiments.report.tables import Figure, Table

PAGE = "report.html"


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page under one heading; items are HTML, figures or tables."""

    title: str
    items: Sequence[str | Figure | Table]


def write(
    folder: pathlib.Path,
    found: Input,
    title: str,
    lead: Sequence[str],
    command: str,
    more: Sequence[Section] = (),
) -> list[str]:
    """Writes `report.html` and its figures and tables to a folder.

    Args:
      folder: made where it does not exist.
      found: runs of one test set, at least one student.
      title: of the page.
      lead: paragraphs at its head.
      command: that makes it again.
      more: sections at its end.

    Returns:
      What is left out, and why; the page says so too.

    Raises:
      UserError: for runs of different test rows, two equal runs, and a file that cannot be written.
    """
    check_same_test(found.runs)
    runs = with_constant(aligned(told_apart(found.runs)))
    cells, notes = Cells(runs), list(found.notes)
    parts = [*_sections(cells, notes), *more]
    if notes:
        parts.append(Section("What is not shown", [html.bullets(notes)]))
    parts.append(Section("To repeat it", [html.code(command)]))
    body = []
    for section in parts:
        items = [item if isinstance(item, str) else item.html() for item in section.items]
        name = html.slug(section.title)
        body.append(
            f'<section aria-labelledby="{name}">{html.heading(section.title)}{"".join(items)}</section>'
        )
        for item in section.items:
            if not isinstance(item, str):
                item.write(folder)
    head = [html.paragraph(text) for text in (*lead, _summary(cells))]
    text = html.page(title, body, head, [section.title for section in parts], style=figures.STYLE)
    files.write_text(folder / PAGE, text)
    return notes


def _summary(cells: Cells) -> str:
    students = cells.students
    counts = {"run": len(students), "method": len(cells.arms), "network": len(cells.models)}
    counts |= {"number of training rows": len(cells.sizes), "seed": len({run.seed for run in students})}
    words = [f"{count:,} {_plural(name, count)}" for name, count in counts.items()]
    rows = students[0].test_rows
    return ", ".join([*words, *([] if rows is None else [f"{rows:,} test rows"])]) + "."


def _plural(name: str, count: int) -> str:
    first, _, rest = name.partition(" ")
    return name if count == 1 else f"{first}s {rest}".strip()


def _sections(cells: Cells, notes: list[str]) -> list[Section]:
    data, models = figures.by_data(cells), figures.by_model(cells)
    if not data:
        notes.append("No figure of accuracy against the training rows: each network has one number of them.")
    if not models:
        notes.append("No figure of accuracy against the size of the network: only one size is known.")
    parts = [
        Section("Results", [*data, *models, *_bullets(cells.passing())]),
        Section("Methods", [sections.methods(cells), sections.tests(cells)]),
    ]
    if curves := figures.training_curves(cells):
        parts.append(Section("Training curves", [_where(cells), *curves]))
    else:
        notes.append("No training curves: no run has lines of `metrics.jsonl`.")
    parts += _of_predictions(cells, notes)
    cost = figures.cost(cells)
    if cost is None:
        notes.append("No figure of the cost: neither FLOPs nor seconds of training are recorded for two cells.")
    parts.append(Section("Cost", [*([cost] if cost else []), sections.cost(cells)]))
    return [*parts, Section("Runs", [sections.all_runs(cells)])]


def _bullets(lines: Sequence[str]) -> list[str]:
    return [html.bullets(lines)] if lines else []


def _where(cells: Cells) -> str:
    """Which runs a section is about."""
    model, size = cells.main
    if len(cells.models) == len(cells.sizes) == 1:
        return ""
    return html.paragraph(f"Of the runs with the network {model} and {cells.size_name(size)} of training data.")


def _of_predictions(cells: Cells, notes: list[str]) -> list[Section]:
    """What needs the predictions of each row."""
    by_arm = cells.main_runs("rows")
    if not by_arm:
        notes.append("No confusion, calibration, slices and test rows: the runs have no files of predictions.")
        return []
    for arm in cells.arms:
        if arm not in by_arm and cells.of(arm, *cells.main):
            notes.append(
                f"{arm}: no predictions by row: it is only in the figures, tables and tests of accuracy."
            )
    where, parts = _where(cells), []
    classes = sections.classes_of(next(iter(by_arm.values())))
    if classes:
        parts.append(Section("Confusion", [where, *sections.confusions(by_arm, classes)]))
    else:
        notes.append(f"No confusion: the test rows have more than {sections.MOST_CLASSES} different labels.")
    confident = sections.confidences(by_arm)
    if confident:
        figure = figures.calibration(confident, cells.arms)
        parts.append(Section("Calibration", [where, figure, sections.calibration_errors(confident)]))
    for arm in by_arm.keys() - confident.keys():
        notes.append(f"{arm}: no calibration: its predictions state no confidence.")
    if not any("teacher_correct" in row for row in next(iter(by_arm.values()))[0].rows.values()):
        notes.append("No slices by the teacher: no row of the predictions says whether the teacher is right.")
    parts.append(Section("Error slices", [where, sections.slices(by_arm, classes)]))
    parts.append(Section("Test rows side by side", [where, *sections.side_by_side(by_arm)]))
    return parts
