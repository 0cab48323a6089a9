import dataclasses
import json
import re

import pytest

from distill_jax.errors import UserError
from distill_jax.evaluation import html
from distill_jax.experiments.demo import experiment, main
from distill_jax.experiments.plots import accuracy_figure


def result(method, comparison, size, seed, accuracy):
    return {
        "method": method,
        "comparison": comparison,
        "train_examples": size,
        "seed": seed,
        "accuracy": accuracy,
        "steps": 10,
        "seconds": 1.0,
    }


RESULTS = [
    result(method, comparison, size, seed, base + 0.1 * (size == 40) + 0.02 * seed)
    for method, comparison, base in (
        ("standard", "equal steps", 0.4),
        ("standard", "equal compute", 0.5),
        ("step_by_step", "equal steps", 0.6),
    )
    for size in (20, 40)
    for seed in (0, 1)
]


def test_the_summary_shows_means_and_gains_by_hand():
    columns, rows = main.summary_rows(RESULTS)
    assert columns[0] == "training examples"
    assert rows[0] == ["20", "61.0%", "41.0%", "51.0%", "+20.0 / +10.0"]
    assert rows[1] == ["40", "71.0%", "51.0%", "61.0%", "+20.0 / +10.0"]


def test_the_figure_names_the_curves_and_is_the_same_every_time():
    svg = accuracy_figure(RESULTS)
    assert svg.startswith("<svg") and svg == accuracy_figure(RESULTS)
    for name in ("distilling step-by-step", "standard, equal compute", "training examples"):
        assert name in svg


def test_cells_are_escaped():
    assert "&lt;b&gt;" in html.table(["a"], [["<b>"]])
    assert "<b>" not in html.page("<b>", [html.paragraph("<b>"), html.code("<b>")])


@pytest.mark.slow
def test_the_whole_demo_at_a_small_scale_is_deterministic(tmp_path, monkeypatch, capsys, small_entailment):
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path / "cache"))
    student = dataclasses.replace(experiment.Settings.student, num_encoder_layers=1, emb_dim=16, mlp_dim=32)
    small = experiment.Settings(train_sizes=(20, 40), steps=3, student=student)
    accuracies, said = [], []
    for name, sizes in (("a", (40, 20)), ("b", (20,))):
        settings = dataclasses.replace(small, train_sizes=sizes)
        monkeypatch.setattr(main, "Settings", lambda task, settings=settings: settings)
        assert main.run(task="entailment", seeds=1, output=str(tmp_path / name)) == 0
        printed = capsys.readouterr().out
        said.append(re.findall(r"^  (?:label|rationale) .*$", printed, re.MULTILINE))
        written = json.loads((tmp_path / name / "results.json").read_text())
        accuracies.append([run["accuracy"] for run in written["runs"]])
        report = (tmp_path / name / "report.html").read_text()
        assert "<svg" in report and "http" not in report.split("<svg")[0]
    assert len(accuracies[0]) == 6
    assert accuracies[1] == accuracies[0][3:]  # the three runs of the size that both have
    # So few steps get no label right, but what the last student writes tells its parameters.
    assert said[1] == said[0] and len(said[0]) == 8
    assert all(len(text.split(maxsplit=1)) == 2 for text in said[0] if text.startswith("  rationale"))
    fields = {"method", "train_examples", "seed", "accuracy", "steps", "seconds"}
    assert fields <= written["runs"][0].keys()
    steps = {run["comparison"]: run["steps"] for run in written["runs"]}
    assert steps["equal compute"] > steps["equal steps"] == 3
    assert "predicted" in printed


def test_bad_flags_give_one_line(tmp_path):
    with pytest.raises(UserError, match="made for the task entailment"):
        main.run(task="svamp", seeds=1, output=str(tmp_path))
    with pytest.raises(UserError, match="expected 1 or more"):
        main.run(task="entailment", seeds=0, output=str(tmp_path))
