import dataclasses
import json
import re

import pytest

from distill_jax.data.schema import Example
from distill_jax.errors import UserError
from distill_jax.evaluation import html
from distill_jax.evaluation.significance import share_interval
from distill_jax.experiments import demo_rates
from distill_jax.experiments.demo import experiment, main, summary


def result(method, comparison, size, seed, right):
    return {
        "method": method,
        "comparison": comparison,
        "train_examples": size,
        "seed": seed,
        "accuracy": right / 20,
        "correct": "1" * right + "0" * (20 - right),
        "steps": 10,
        "seconds": 1.0,
    }


RIGHT = {
    ("standard", "equal steps"): 8,
    ("standard", "equal compute"): 10,
    ("step_by_step", "equal steps"): 14,
    ("majority", "no student"): 4,
    ("lookup", "no student"): 7,
    ("teacher", "no student"): 20,
}


def results(seeds):
    """One row more is right with each seed by a method, and with 40 rows two more."""
    return [
        result(*key, size, seed, right + (seed + 2 * (size == 40)) * (key[1] != "no student"))
        for key, right in RIGHT.items()
        for size in (20, 40)
        for seed in range(seeds)
    ]


def test_the_table_of_several_seeds_by_hand():
    found = results(3)[::-1]  # in whatever order
    columns, rows = summary.table(found)
    assert columns == ["accuracy", "20 rows", "40 rows"]
    table = {row[0]: row[1:] for row in rows}
    # 70, 75 and 80%: the mean 75, reach 4.303 * 5 / sqrt(3) = 12.4
    assert table["step-by-step"] == ["75.0% (62.6 to 87.4)", "85.0% (72.6 to 97.4)"]
    assert table["standard, equal steps"][0] == "45.0% (32.6 to 57.4)"
    assert table["gain over standard, equal steps"] == ["+30.0 (p < 0.001)"] * 2
    assert table["majority class"] == ["20.0%"] * 2 and table["lookup of train's pairs"][0] == "35.0%"
    assert table["teacher"] == ["100.0%"] * 2 and "regression on words" not in table
    assert "3 seeds" in summary.how(found) and "Student" in summary.how(found)


def test_the_table_of_one_seed_tests_over_the_rows():
    found = results(1)
    table = {row[0]: row[1:] for row in summary.table(found)[1]}
    low, high = share_interval(14, 20)
    assert table["step-by-step"][0] == f"70.0% ({100 * low:.1f} to {100 * high:.1f})"
    # Six rows that only one has right: 2 / 2 ** 6.
    assert table["gain over standard, equal steps"][0] == "+30.0 (p = 0.031)"
    assert "Wilson" in summary.how(found) and "McNemar" in summary.how(found)


def test_the_page_names_the_curves_and_is_the_same_every_time(tmp_path):
    pages = []
    for name in ("a", "b"):
        main.write(tmp_path / name, results(2), experiment.Settings(), 2)
        pages.append((tmp_path / name / "report.html").read_text())
    assert pages[0] == pages[1].replace(str(tmp_path / "b"), str(tmp_path / "a"))
    assert pages[0].count("<svg") == 2  # accuracy and cost
    for name in ("step_by_step, equal steps", "standard, equal compute", "training rows"):
        assert name in pages[0]
    for name in ("lookup in train", "majority class", "teacher"):
        assert name in pages[0]


def test_pairs_are_joined_up_by_hand():
    def row(one, two, label=None):
        premise = f"Premise: Ada has a {one} and {two}." + " Hypothesis: Both are of the same kind."
        return Example("1", premise, label=label)

    train = [row("trout", "a carp", "entailment"), row("carp", "a pike", "entailment")]
    train += [row("perch", "a saw", "contradiction"), row("trout", "something else", "neutral")]
    test = [row("pike", "a trout"), row("perch", "a carp"), row("saw", "something else")]
    assert experiment.joined(train, test) == ["entailment", "contradiction", "neutral"]


def test_a_rate_is_chosen_for_each_budget_and_size():
    def run(budget, size, rate, accuracy):
        made = {"method": "standard", "comparison": budget, "train_examples": size}
        return made | {"learning_rate": rate, "accuracy": accuracy}

    runs = [run("equal steps", 20, rate, acc) for rate, acc in ((1.0, 0.5), (1.0, 0.7), (2.0, 0.6), (4.0, 0.1))]
    runs += [
        run("equal steps", 40, 2.0, 0.9),
        run("equal compute", 20, 4.0, 0.6),
        run("equal steps", 40, 1.0, 0.8),
    ]
    assert demo_rates.best(runs) == {
        "standard": {"equal steps": {20: 1.0, 40: 2.0}, "equal compute": {20: 4.0}}  # of equal means the lower
    }
    settings = experiment.Settings(learning_rates=demo_rates.best(runs))
    assert settings.rate("standard", "equal steps", 25) == 1.0
    assert settings.rate("standard", "equal steps", 100) == 2.0


@pytest.mark.skipif(not demo_rates.FILE.exists(), reason="no search has been committed")
def test_the_rates_of_the_demo_are_those_of_the_search():
    runs = json.loads(demo_rates.FILE.read_text())["runs"]
    settings = experiment.Settings()
    assert settings.learning_rates == demo_rates.best(runs)
    steps = {run["comparison"]: run["steps"] for run in runs}
    assert steps["equal steps"] == settings.steps and {run["seed"] for run in runs}.isdisjoint(range(5))


def test_cells_are_escaped():
    assert "&lt;b&gt;" in html.table(["a"], [["<b>"]])
    assert "<b>" not in html.page("<b>", [html.paragraph("<b>"), html.code("<b>")])


@pytest.mark.slow
def test_the_whole_demo_at_a_small_scale_is_deterministic(tmp_path, monkeypatch, capsys, small_entailment):
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path / "cache"))
    student = dataclasses.replace(experiment.Settings.student, num_encoder_layers=1, emb_dim=16, mlp_dim=32)
    small = experiment.Settings(train_sizes=(20, 40), steps=3, student=student)
    accuracies, said = [], []
    for name, sizes in (("a", (20, 40)), ("b", (40,))):
        settings = dataclasses.replace(small, train_sizes=sizes)
        monkeypatch.setattr(main, "Settings", lambda task, settings=settings: settings)
        assert main.run(task="entailment", seeds=1, output=str(tmp_path / name)) == 0
        printed = capsys.readouterr().out
        said.append(re.findall(r"^  (?:label|rationale) .*$", printed, re.MULTILINE))
        written = json.loads((tmp_path / name / "results.json").read_text())
        accuracies.append([run["accuracy"] for run in written["runs"]])
        report = (tmp_path / name / "report.html").read_text()
        assert report.count("<svg") == (3 if name == "a" else 2)  # one size has no curve over sizes
        assert "://" not in report
    assert len(accuracies[0]) == 18
    assert accuracies[1] == accuracies[0][9:]  # three runs and six rules of the size that both have
    # So few steps get no label right, but what the last student writes tells its parameters.
    assert said[1] == said[0] and len(said[0]) == 8
    assert all(len(text.split(maxsplit=1)) == 2 for text in said[0] if text.startswith("  rationale"))
    fields = {"method", "train_examples", "seed", "accuracy", "steps", "seconds"}
    assert fields <= written["runs"][0].keys()
    for name in ("teacher", "majority class", "floor: the wording alone"):
        assert name in printed and name in report
    place = tmp_path / "b/runs/step_by_step-equal-steps-40-0"
    rows = [json.loads(line) for line in (place / "eval/test.jsonl").read_text().splitlines()]
    assert len(rows) == 40 and sum("predicted_rationale" in row for row in rows) == 4
    assert "Test rows side by side" in report and "Error slices" in report
    steps = {run["comparison"]: run.get("steps") for run in written["runs"]}
    assert steps["equal compute"] > steps["equal steps"] == 3
    assert "predicted" in printed


def test_bad_flags_give_one_line(tmp_path):
    with pytest.raises(UserError, match="made for the task entailment"):
        main.run(task="svamp", seeds=1, output=str(tmp_path))
    with pytest.raises(UserError, match="expected 1 or more"):
        main.run(task="entailment", seeds=0, output=str(tmp_path))
