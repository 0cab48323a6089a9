"""Runs the demo's comparison, prints it, and writes results.json, predictions, and the report of them."""

import dataclasses
import json
import pathlib
import time
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from distill_jax import files
from distill_jax.errors import UserError
from distill_jax.evaluation import html
from distill_jax.experiments.console import console
from distill_jax.experiments.demo import summary
from distill_jax.experiments.demo.experiment import Settings, compare
from distill_jax.experiments.report import inputs, page

LEAD = (
    "A small T5 is trained on the generated task {task} by both methods, from the same random parameters. "
    "Standard fine-tuning learns the label. Step-by-step learns the label and, as a second task, the "
    "rationale. At test time both generate the label alone.",
    "The pairs of words that the test rows compare are in no training row. Below the methods stand the rules "
    "that know no kinds, learnt from the same training rows: the most frequent class; the wording alone; a "
    "regression on single words; a lookup of the pair, then of the wording.",
    "Equal steps: {steps} updates of about the same number of examples. Equal compute: as many more updates of "
    "standard as it takes to reach the FLOPs of step-by-step, as XLA counts them. Each method's learning rate "
    "was chosen on validation at that budget and size.",
)


def _samples(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Test rows with the predictions of the last step-by-step run, rationales too."""
    rows = [r for r in results if r["method"] == "step_by_step" and "rows" in r][-1]["rows"]
    return [row for row in rows if "predicted_rationale" in row]


def write(folder: pathlib.Path, results: Sequence[dict[str, Any]], settings: Settings, seeds: int) -> None:
    """Writes results.json, the predictions and losses of the runs that have them, and the report."""
    runs = []
    for result in results:
        run = {name: value for name, value in result.items() if name not in ("rows", "curve")}
        if "rows" in result:
            words = [str(result[name]) for name in ("method", "comparison", "train_examples", "seed")]
            place = f"runs/{'-'.join(words).replace(' ', '-')}"
            run |= {"run": place, "predictions": f"{place}/eval/{settings.split}.jsonl"}
            for name, lines in (
                (run["predictions"], result["rows"]),
                (f"{place}/metrics.jsonl", result["curve"]),
            ):
                files.write_text(folder / name, "".join(f"{json.dumps(line)}\n" for line in lines))
        runs.append(run)
    figures = {"task": settings.task, "settings": dataclasses.asdict(settings), "runs": runs}
    files.write_text(folder / "results.json", json.dumps(figures, indent=2) + "\n")
    page.write(
        folder,
        inputs.read([str(folder / "results.json")], settings.split, None),
        "Distilling step-by-step against standard fine-tuning",
        [text.format(task=settings.task, steps=settings.steps) for text in LEAD],
        f"distill-jax demo --task {settings.task} --seeds {seeds}",
        [page.Section("Settings", [html.code(json.dumps(dataclasses.asdict(settings), indent=2))])],
    )


def checked_folder(task: str, seeds: int, output: str) -> pathlib.Path:
    """The folder of the results, created if it does not exist.

    Raises:
      UserError: for another task than the demo's, no seeds, or a folder that cannot be created.
    """
    if task != "entailment":
        raise UserError(f"the demo is made for the task entailment, not for {task!r}")
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
      UserError: see `checked_folder`; for a file that cannot be written.
    """
    folder = checked_folder(task, seeds, output)
    shown = console()
    settings = Settings(task=task)
    began = time.monotonic()

    def show(result: dict[str, Any]) -> None:
        spent = f"  {result['steps']:>5} steps {result['seconds']:6.1f} s" if "steps" in result else ""
        shown.print(
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
    shown.print(table)
    shown.print(summary.how(results), highlight=False)
    for sample in _samples(results):
        shown.print(
            f"\n{sample['input']}\n  label      {sample['label']}, predicted {sample['predicted_label']}"
            f"\n  rationale  {sample['predicted_rationale']}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    write(folder, results, settings, seeds)
    shown.print(f"\n{folder}/report.html and {folder}/results.json: {time.monotonic() - began:.0f} s")
    return 0
