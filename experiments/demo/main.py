"""Runs the demo's comparison, prints it, and writes report.html and results.json."""

import dataclasses
import json
import pathlib
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from distill_jax.errors import UserError
from distill_jax.evaluation import html
from distill_jax.experiments.demo import summary
from distill_jax.experiments.demo.experiment import Settings, compare
from distill_jax.experiments.plots import accuracy_figure


def _samples(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Test rows with the predictions of the last step-by-step run."""
    last = [r for r in results if r["method"] == "step_by_step" and "samples" in r][-1]
    return last["samples"]


def _report(results: Sequence[dict[str, Any]], settings: Settings, seeds: int) -> str:
    columns, rows = summary.table(results)
    run_columns = ["method", "comparison", "train_examples", "seed", "accuracy"]
    run_columns += ["learning_rate", "steps", "seconds"]
    return html.page(
        "Distilling step-by-step against standard fine-tuning",
        [
            html.paragraph(
                f"A small T5 is trained on the generated task `{settings.task}` by both methods, from the same "
                "random parameters. Standard fine-tuning learns the label. Step-by-step learns the label and, "
                "as a second task, the rationale. At test time both generate the label alone. "
                f"{seeds} seed(s); test split of 1,000 examples."
            ),
            html.paragraph(
                "The pairs of words that the test rows compare are in no training row. Below the methods "
                "stand the rules that know no kinds, learnt from the same training rows: the most frequent "
                "class; the wording alone; a regression on single words; a lookup of the pair, then of the "
                "wording."
            ),
            accuracy_figure(results),
            html.table(columns, rows),
            html.paragraph(summary.how(results)),
            html.paragraph(
                f"Equal steps: {settings.steps} updates of about the same number of examples. Equal "
                "compute: as many more updates of standard as it takes to reach the FLOPs of step-by-step, "
                "as XLA counts them. Each method's learning rate was chosen on validation at that budget and "
                "size."
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
            html.table(run_columns, [[r.get(c, "") for c in run_columns] for r in results]),
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
        spent = f"  {result['steps']:>5} steps {result['seconds']:6.1f} s" if "steps" in result else ""
        console.print(
            f"{result['train_examples']:>6,} examples  seed {result['seed']}  "
            f"{summary.NAMES[result['method'], result['comparison']]:24}"
            f"accuracy {100 * result['accuracy']:5.1f}%" + spent,
            highlight=False,
            soft_wrap=True,
        )

    results = compare(settings, range(seeds), show)
    columns, rows = summary.table(results)
    table = Table(title="Label accuracy on 1,000 test examples")
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print(summary.how(results), highlight=False)
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
