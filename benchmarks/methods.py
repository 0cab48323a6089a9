"""All methods on one small set, over seeds: accuracy on new rows, and what each needs at test time.

    python benchmarks/methods.py --seeds 3 --output docs/methods.md
    python benchmarks/methods.py --only step_by_step,step_by_step_shared --output docs/shared_encoding.md

A teacher T5 is trained on the embedded task with all of its rows, and annotates the rows that the students
are trained on: its label, its reason, and its probability of each class. Every method then trains the
same student from scratch, on the same rows, for the same number of steps, with the learning rate that the demo
found best on the validation split (`benchmarks/demo_rates.py`): that of standard for methods with one view of a
row, that of step-by-step for those with two.
"""

import argparse
import json
import pathlib
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from distill_jax.experiments.demo.students import (
    EXAMPLES,
    METHODS,
    SETTINGS,
    label_accuracy,
    train,
    train_teacher,
)

from distill_jax.decoding.predict import Request
from distill_jax.decoding.predictor import Predictor

POOL = 4_000  # rows the teacher annotates; a seed draws its training rows from them


def annotate(folder: pathlib.Path, teacher: pathlib.Path) -> dict[str, Any]:
    """Writes the rows with what the teacher says of them; the options that name these files."""
    predictor = Predictor(str(teacher), batch_size=250)
    files = []
    for split, count in (("train", POOL), ("validation", None), ("test", None)):
        examples = list(predictor.student.task.source.examples(split))[:count]
        said = predictor.predict_examples(examples, Request(rationale=True, label_by="rank"))
        path = folder / f"{split}.jsonl"
        with path.open("w") as file:
            for example, prediction in zip(examples, said, strict=True):
                row = {"id": example.id, "input": example.input, "label": example.label}
                row |= {"teacher_label": prediction.label, "rationale": prediction.rationale}
                row["label_probs"] = list(prediction.label_probs.values())
                file.write(json.dumps(row) + "\n")
        files.append(str(path))
    names = ("data", "validation_data", "test_data")
    return dict(zip(names, files, strict=True)) | {"classes": predictor.student.task.classes}


def compare(
    folder: pathlib.Path, teacher: pathlib.Path, size: int, seeds: int, names: Sequence[str]
) -> dict[str, Any]:
    """Trains and scores some methods; the figures."""
    common = annotate(folder, teacher) | {"vocabulary": str(teacher), "num_examples": size}
    figures: dict[str, Any] = {"teacher": label_accuracy(teacher, "test"), "methods": {}}
    for method in map(METHODS.__getitem__, names):
        options = common | ({"teacher_checkpoint_path": str(teacher)} if method.needs_teacher else {})
        scores, seconds = [], []
        for seed in range(seeds):
            run_folder, began = folder / f"{method.name}-{seed}", time.monotonic()
            train(run_folder, method, seed, **options)
            scores.append(label_accuracy(run_folder, "test"))
            seconds.append(time.monotonic() - began)
        figures["methods"][method.name] = {"accuracies": scores, "seconds": float(np.median(seconds))}
        print(method.name, json.dumps(figures["methods"][method.name]), flush=True)
        jax.clear_caches()
    return figures


TEXT = """# All methods on one small set

Made by:

```sh
{command}
```

The embedded task `entailment`, {rows} training rows, 1,000 test rows, {seeds} seeds (each with its
own rows, parameters and order), {steps} steps of {examples} examples, the demo's student from
scratch. The teacher, a larger T5 trained on all 20,000 rows, is right on {teacher:.1%} of the test
rows; its labels, reasons and class probabilities are what the students are taught with. Learning
rates are the demo's, found on the validation split: that of standard with one view
of a row, that of step-by-step with two. `standard`, `step_by_step`, `single_task` and
`rationale_input` are trained on gold labels, `task_distillation` on the teacher's, `soft_labels`
and `logit_distillation` on both. The seconds are of training and evaluation together on 2 CPU
cores, as a median.

| method | at test time it gives | accuracy | each seed | rate | seconds |
| --- | --- | ---: | --- | ---: | ---: |
"""


def page(figures: dict[str, Any], size: int, seeds: int, command: str) -> str:
    """The figures as Markdown."""
    text = TEXT.format(
        command=command,
        rows=size,
        seeds=seeds,
        steps=SETTINGS.steps,
        examples=EXAMPLES,
        teacher=figures["teacher"],
    )
    for name, row in figures["methods"].items():
        method = METHODS[name]
        mean, each = np.mean(row["accuracies"]), " / ".join(f"{100 * a:.1f}" for a in row["accuracies"])
        cells = [f"`{method.name}`", method.at_test_time, f"{mean:.1%}", each]
        cells += [f"{method.rate:g}", f"{row['seconds']:.0f}"]
        text += f"| {' | '.join(cells)} |\n"
    return text


def main() -> None:
    """Runs the comparison and writes the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", default="docs/methods.md")
    parser.add_argument("--teacher", help="a run of `entailment_step_by_step` to take as it is")
    parser.add_argument("--only", default=",".join(METHODS), help="some of the methods, by commas")
    args = parser.parse_args()
    names = args.only.split(",")
    if unknown := set(names) - set(METHODS):
        parser.error(f"--only {','.join(sorted(unknown))}: expected some of {', '.join(METHODS)}")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        teacher = pathlib.Path(args.teacher) if args.teacher else folder / "teacher"
        if not args.teacher:
            train_teacher(teacher)
        figures = compare(folder, teacher, args.rows, args.seeds, names)
    output = pathlib.Path(args.output)
    output.parent.mkdir(exist_ok=True)
    text = page(figures, args.rows, args.seeds, f"python benchmarks/methods.py {shlex.join(sys.argv[1:])}")
    output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
