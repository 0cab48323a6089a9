"""All methods on one small data set, over seeds: accuracy on new rows, and what each needs at test time.

    python -m distill_jax.experiments.methods --seeds 3
    python -m distill_jax.experiments.methods --only step_by_step,step_by_step_shared \
        --results experiments/results/shared_encoding.json --output docs/shared_encoding.md

A teacher T5 is trained on all rows of the embedded task. It annotates the rows that the students are trained
on with its label, its rationale and its probability of each class. Every method then trains the same student
from scratch, on the same rows, for the same number of steps. The learning rate is what `demo_rates` found
best on the validation split: that of `standard` for methods with one view of a row, that of `step_by_step`
for two.
"""

import argparse
import json
import pathlib
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from distill_jax.decoding.predict import Request
from distill_jax.decoding.predictor import Predictor
from distill_jax.experiments import results
from distill_jax.experiments.demo import students
from distill_jax.experiments.demo.students import EXAMPLES, METHODS, SETTINGS

POOL = 4_000  # rows that the teacher annotates; a seed draws its training rows from them


def annotate(folder: pathlib.Path, teacher: pathlib.Path) -> dict[str, Any]:
    """Writes rows with the teacher's answers as files of own data; the options that name these."""
    predictor = Predictor(str(teacher), batch_size=250)
    files = []
    for split, count in (("train", POOL), ("validation", None), ("test", None)):
        examples = list(predictor.student.task.source.examples(split))[:count]
        answers = predictor.predict_examples(examples, Request(rationale=True, label_by="rank"))
        path = folder / f"{split}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for example, answer in zip(examples, answers, strict=True):
                row = {"id": example.id, "input": example.input, "label": example.label}
                row |= {"teacher_label": answer.label, "rationale": answer.rationale}
                row["label_probs"] = list(answer.label_probs.values())
                file.write(json.dumps(row) + "\n")
        files.append(str(path))
    names = ("data", "validation_data", "test_data")
    return dict(zip(names, files, strict=True)) | {"classes": predictor.student.task.classes}


def compare(
    folder: pathlib.Path, teacher: pathlib.Path, size: int, seeds: int, names: Sequence[str]
) -> dict[str, Any]:
    """Trains and scores a student by each method and seed; the figures."""
    data = annotate(folder, teacher)
    figures: dict[str, Any] = {
        "rows": size,
        "seeds": seeds,
        "steps": SETTINGS.steps,
        "examples": EXAMPLES,
        "teacher": students.label_accuracy(teacher, "test"),
        "methods": {},
    }
    for method in map(METHODS.__getitem__, names):
        needed = {"teacher_checkpoint_path": str(teacher)} if method.needs_teacher else {}
        accuracies, seconds = [], []
        for seed in range(seeds):
            run, began = folder / f"{method.name}-{seed}", time.monotonic()
            students.train(
                run,
                method,
                seed,
                vocabulary=str(teacher),
                num_examples=size,
                **needed,
                **data,
            )
            accuracies.append(students.label_accuracy(run, "test"))
            seconds.append(time.monotonic() - began)
        figures["methods"][method.name] = {
            "at_test_time": method.at_test_time,
            "accuracies": accuracies,
            "rate": method.rate,
            "seconds": float(np.median(seconds)),
        }
        print(method.name, json.dumps(figures["methods"][method.name]), flush=True)
        jax.clear_caches()
    return figures


TEXT = """# All methods on one small data set

Made by:

```sh
{command}
```

The embedded task `entailment`, {rows:,} training rows, 1,000 test rows, {seeds} seeds (each with its own
rows, parameters and order), {steps} steps of {examples} examples, the demo's student from scratch. The teacher
is a larger T5, trained on all 20,000 rows; {teacher:.1%} of its labels on the test rows are right. The
students learn from its labels, rationales and class probabilities. The learning rates are the demo's, chosen
on the validation split: that of `standard` for methods with one view of a row, that of `step_by_step` for two.
`standard`, `step_by_step`, `single_task` and `rationale_input` are trained on reference labels,
`task_distillation` on the teacher's, `soft_labels` and `logit_distillation` on both. The seconds are the
median of training and evaluation together, on 2 CPU cores.

| method | output at test time | accuracy | each seed | learning rate | seconds |
| --- | --- | ---: | --- | ---: | ---: |
"""


def page(figures: Mapping[str, Any]) -> str:
    """The figures of `compare`, with their `command`, as Markdown."""
    text = TEXT.format(**figures)
    for name, row in figures["methods"].items():
        mean, each = np.mean(row["accuracies"]), " / ".join(f"{100 * a:.1f}" for a in row["accuracies"])
        cells = [
            f"`{name}`",
            row["at_test_time"],
            f"{mean:.1%}",
            each,
            f"{row['rate']:g}",
            f"{row['seconds']:.0f}",
        ]
        text += f"| {' | '.join(cells)} |\n"
    return text


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the comparison, and writes the figures and the page."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000, help="training rows")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--teacher", type=pathlib.Path, help="a run of `entailment_step_by_step` to use")
    parser.add_argument("--only", default=",".join(METHODS), help="some of the methods, by commas")
    results.add_flags(parser, "methods")
    args = parser.parse_args(argv)
    names = args.only.split(",")
    if unknown := set(names) - set(METHODS):
        parser.error(f"--only {','.join(sorted(unknown))}: expected some of {', '.join(METHODS)}")

    def run() -> dict[str, Any]:
        command = f"python -m distill_jax.experiments.methods {shlex.join(argv)}".strip()
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            if not args.teacher:
                students.train_teacher(folder / "teacher")
            figures = compare(folder, args.teacher or folder / "teacher", args.rows, args.seeds, names)
        return {"command": command} | figures

    results.deliver(args, run, page)


if __name__ == "__main__":
    main()
