"""Runs the demo's comparison, prints it, and writes report.html and results.json."""

import dataclasses
import json
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from distill_jax.errors import UserError
from distill_jax.evaluation import html
from distill_jax.experiments.demo.experiment import Settings, compare
from distill_jax.experiments.plots import accuracy_figure, curves

NAMES = {
    ("step_by_step", "equal steps"): "step-by-step",
    ("standard", "equal steps"): "standard, equal steps",
    ("standard", "equal compute"): "standard, equal compute",
}


def summary_rows(results: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the summary: training size against method, mean accuracy over seeds."""
    grouped = curves(results)
    keys = [key for key in NAMES if key in grouped]
    sizes = sorted({result["train_examples"] for result in results})
    columns = ["training examples", *(NAMES[key] for key in keys), "gain at equal steps / compute"]
    rows = []
    for size in sizes:
        means = {key: float(np.mean(grouped[key][size])) for key in keys}
        ours = means["step_by_step", "equal steps"]
        gains = [ours - means["standard", c] for c in ("equal steps", "equal compute")]
        cells = [f"{100 * means[key]:.1f}%" for key in keys]
        rows.append([f"{size:,}", *cells, " / ".join(f"{100 * gain:+.1f}" for gain in gains)])
    return columns, rows


def _samples(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Test rows with the predictions of the last step-by-step run."""
    last = [r for r in results if r["method"] == "step_by_step" and "samples" in r][-1]
    return last["samples"]


def _report(results: Sequence[dict[str, Any]], settings: Settings, seeds: int) -> str:
    columns, rows = summary_rows(results)
    run_columns = ["method", "comparison", "train_examples", "seed", "accuracy", "steps", "seconds"]
    return html.page(
        "Distilling step-by-step against standard fine-tuning",
        [
            html.paragraph(
                f"A small T5 is trained on the generated task `{settings.task}` by both methods, from the same "
                "random parameters. Standard fine-tuning learns the label. Step-by-step learns the label and, "
                "as a second task, the rationale. At test time both generate the label alone. "
                f"{seeds} seed(s); test split of 1,000 examples."
            ),
            accuracy_figure(results),
            html.table(columns, rows),
            html.paragraph(
                f"Equal steps: {settings.steps} updates of about the same number of examples. Equal "
                "compute: as many more updates of standard as it takes to reach the FLOPs of step-by-step, "
                "as XLA counts them."
            ),
            html.heading("Predictions of the step-by-step student"),
            html.table(
                ["input", "label", "predicted label", "predicted rationale"],
                [
                    [s["input"], s["label"], s["predicted_label"], s["predicted_rationale"]]
                    for s in _samples(results)
                ],
            ),
            html.heading("All runs"),
            html.table(run_columns, [[r[c] for c in run_columns] for r in results]),
            html.heading("Settings"),
            html.code(json.dumps(dataclasses.asdict(settings), indent=2)),
            html.paragraph("To repeat it:"),
            html.code(f"distill-jax demo --task {settings.task} --seeds {seeds}"),
        ],
    )


def checked_folder(task: str, seeds: int, output: str) -> pathlib.Path:
    """The folder of the results, created if it does not exist.

    Raises:
      UserError: for another task than the demo's, no seeds, or a folder that cannot be created.
    """
    if task != "entailment":
        raise UserError(f"the demo is made for the task entailment, not {task!r}")
    if seeds < 1:
        raise UserError(f"--seeds: expected 1 or more, got {seeds}")
    folder = pathlib.Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {folder}: cannot be made: {error.strerror}") from None
    return folder


def run(task: str, seeds: int, output: str) -> int:
    """Runs the demo; the exit status.

    Raises:
      UserError: see `checked_folder`.
    """
    folder = checked_folder(task, seeds, output)
    console = Console()
    settings = Settings(task=task)
    began = time.monotonic()

    def show(result: dict[str, Any]) -> None:
        console.print(
            f"{result['train_examples']:>6,} examples  seed {result['seed']}  "
            f"{NAMES[result['method'], result['comparison']]:24}"
            f"accuracy {100 * result['accuracy']:5.1f}%  {result['steps']:>5} steps "
            f"{result['seconds']:6.1f} s",
            highlight=False,
            soft_wrap=True,
        )

    results = compare(settings, range(seeds), show)
    columns, rows = summary_rows(results)
    table = Table(title="Label accuracy on 1,000 test examples")
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for sample in _samples(results):
        console.print(
            f"\n{sample['input']}\n  label      {sample['label']}, predicted {sample['predicted_label']}"
            f"\n  rationale  {sample['predicted_rationale']}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    figures = {
        "task": task,
        "settings": dataclasses.asdict(settings),
        "runs": [{k: v for k, v in r.items() if k != "samples"} for r in results],
    }
    (folder / "results.json").write_text(json.dumps(figures, indent=2) + "\n")
    (folder / "report.html").write_text(_report(results, settings, seeds), encoding="utf-8")
    console.print(f"\n{folder}/report.html and {folder}/results.json: {time.monotonic() - began:.0f} s")
    return 0
