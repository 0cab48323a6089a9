"""The pages of the docs that experiments write: figures by hand, and the pages of the files that are there."""

import json
import pathlib

import matplotlib
import numpy as np
import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("openai")

from distill_jax.experiments import active_annotation, demo_page, esnli_page, methods, results, sweep_pages
from distill_jax.experiments.report.cells import Cells
from distill_jax.experiments.report.runs import Run

PAGES = {"methods": methods.page, "shared_encoding": methods.page, "active": active_annotation.page}


def test_calls_to_reach_an_accuracy_by_hand():
    budgets, means = [100, 200, 400], [0.5, 0.6, 0.7]
    assert active_annotation.calls_to_reach(budgets, means, 0.4) == 100
    assert active_annotation.calls_to_reach(budgets, means, 0.6) == pytest.approx(200)
    assert active_annotation.calls_to_reach(budgets, means, 0.65) == pytest.approx(300)
    assert active_annotation.calls_to_reach(budgets, means, 0.71) is None


def test_the_statement_says_yes_no_or_not_for_every_seed():
    budgets = [100, 200, 400]
    random = np.array([[0.5, 0.6, 0.7], [0.5, 0.6, 0.7]])
    better = random + np.array([0.0, 0.1, 0.1])
    text = active_annotation.statement(budgets, {"random": random, "active": better})
    assert text.startswith("**Yes.**") and "with 200 (linear" in text and "50% fewer" in text
    assert "ahead in 4 of 4 pairs, by +10.0 points" in text
    text = active_annotation.statement(budgets, {"random": random, "active": 2 * random - better})
    assert text.startswith("**No.**") and "active annotation at most 60.0%" in text
    mixed = random + np.array([[0.0, 0.2, 0.2], [0.0, -0.1, -0.1]])
    text = active_annotation.statement(budgets, {"random": random, "active": mixed})
    assert text.startswith("**In the mean, but not for every seed.**") and "by seed +20.0, -10.0" in text


def test_a_page_is_made_anew_from_the_figures(tmp_path, capsys):
    row = {"at_test_time": "label", "accuracies": [0.6, 0.7], "rate": 5e-4, "seconds": 104.2}
    figures = {
        "command": "python -m x",
        "rows": 1000,
        "seeds": 2,
        "steps": 800,
        "examples": 32,
        "teacher": 0.997,
    }
    (tmp_path / "methods.json").write_text(json.dumps(figures | {"methods": {"standard": row}}))
    page = tmp_path / "methods.md"
    methods.main(["--page-only", "--results", str(tmp_path / "methods.json"), "--output", str(page)])
    assert page.read_text() == capsys.readouterr().out.removesuffix("\n")
    assert page.read_text().endswith("| `standard` | label | 65.0% | 60.0 / 70.0 | 0.0005 | 104 |\n")

    figures = {"budgets": [100, 200], "steps": 9, "seeds": 1, "measure": "margin", "pool": 300, "teacher": 0.9}
    figures |= {"accuracies": {"random": [[0.5, 0.6]], "active": [[0.5, 0.65]]}}
    figures |= {"labels": {"random": {"neutral": 1.0}, "active": {"neutral": 0.25}}}
    assert "| 200 | 60.0% | 60.0 | 65.0% | 65.0 | +5.0 |\n" in active_annotation.page(figures)


@pytest.mark.parametrize("name", [n for n in PAGES if (results.FOLDER / f"{n}.json").exists()])
def test_the_page_of_the_docs_is_that_of_the_figures(name):
    figures = json.loads((results.FOLDER / f"{name}.json").read_text())
    assert pathlib.Path(f"docs/{name}.md").read_text() == PAGES[name](figures)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_the_docs_has_its_figures(name):
    assert (results.FOLDER / f"{name}.json").exists() or not pathlib.Path(f"docs/{name}.md").exists()


def test_readme_and_the_page_of_the_demo_are_those_of_the_figures():
    figures = [demo_page.read(path) for path in (demo_page.DEMO, demo_page.RATES, demo_page.ESNLI)]
    before, after = demo_page.MARKS
    assert demo_page.README.read_text().split(before)[1].partition(after)[0] == demo_page.readme(figures[0])
    assert demo_page.PAGE.read_text() == demo_page.page(*figures)


def test_readme_and_the_page_of_real_text_are_those_of_the_figures():
    before, after = esnli_page.MARKS
    assert esnli_page.README.read_text().split(before)[1].partition(after)[0] == esnli_page.readme()
    assert esnli_page.PAGE.read_text() == esnli_page.page()


def test_the_figure_of_real_text_is_that_of_the_figures():
    drawn = esnli_page.FIGURE.read_text()
    if f"Matplotlib v{matplotlib.__version__}" not in drawn:
        pytest.skip("drawn by another release of matplotlib than is installed")
    assert drawn == esnli_page.figure()


@pytest.mark.parametrize("part", sweep_pages.PARTS, ids=lambda part: part.name)
def test_a_part_of_the_docs_is_that_of_its_sweep(part):
    before, after = part.marks
    assert part.page.read_text().split(before)[1].partition(after)[0] == part.text()


def test_two_starts_are_compared_over_the_seeds_that_both_have():
    def record(model, seed, right):
        marks = tuple(row < right for row in range(10))
        own = {"seed": seed, "accuracy": right / 10, "correct": marks, "share": 1.0, "train_rows": 4}
        return Run(source="", method="standard", model=model, **own)

    runs = [
        record("pretrained", 0, 8),
        record("pretrained", 1, 6),
        record("random", 0, 5),
        record("random", 1, 5),
    ]
    one = sweep_pages.starts(Cells(runs[:3]))  # one seed in common: McNemar's test, 3 rows to none: 2 / 2 ** 3
    assert one == "By standard the pretrained start is +30.0 points from the random one (p = 0.250)."
    # Of gains .3 and .1: t = .2 / (.1414 / sqrt(2)) = 2 with one degree of freedom, p = 1 - 2 atan(2) / pi.
    assert sweep_pages.starts(Cells(runs)).endswith("+20.0 points from the random one (p = 0.295).")


def run(method, budget, size, seed, accuracy, spent):
    made = {"method": method, "comparison": budget, "train_examples": size, "seed": seed, "accuracy": accuracy}
    return made | {"learning_rate": 0.1, "processor_seconds": spent}


def test_what_the_page_of_the_demo_states_by_hand():
    runs = []
    for size, ours, equal, more in ((20, 0.9, 0.6, 0.9), (40, 0.9, 0.6, 0.95)):
        for seed in range(3):
            jitter = 0.001 * seed
            runs.append(run("step_by_step", "equal steps", size, seed, ours + jitter, 60.0))
            runs.append(run("standard", "equal steps", size, seed, equal, 30.0))
            runs.append(run("standard", "equal compute", size, seed, more + (0.003 * (seed % 2)), 90.0))
    runs.append({"method": "majority", "comparison": "no student", "seed": 0, "train_examples": 20})
    assert demo_page.statement(runs) == (
        "Step-by-step is ahead of standard, equal steps with 20 and 40 rows, not told apart from standard, "
        "equal compute with 20 rows and behind standard, equal compute with 40 rows."
    )
    rule = [run("majority", "no student", size, 0, 0.5, 0.0) for size in (20, 40)]
    assert demo_page.over_the_floor(rule + runs[:-1]) == (
        "Points over the best rule without knowledge, 50.0% and 50.0%, by the number of rows: step-by-step "
        "+40.1 and +40.1; standard, equal steps +10.0 and +10.0; standard, equal compute +40.1 and +45.1."
    )
    # By seed and size 60 of step-by-step, and 90 of the run of standard that is scored twice.
    assert demo_page.minutes_a_seed(runs) == pytest.approx(2 * (60 + 90) / 60)
    assert demo_page.markdown(["a", "b"], [["x", "1"]]) == "| a | b |\n| --- | ---: |\n| x | 1 |\n"
