"""Which rows to annotate next: by a student's scores, and at random."""

import collections
import json
import math

import pytest

import distill_jax
from distill_jax.cli import main as cli
from distill_jax.data.schema import Example
from distill_jax.decoding.select import at_random, uncertainties
from distill_jax.errors import UserError
from distill_jax.scoring.uncertainty import MEASURES

TEXTS = ["Premise: Ada has a car.", "x", "Premise: Ben has a trout and a saw.", "y z", "an oak"]


@pytest.fixture(scope="module")
def predictor(make_run):
    return distill_jax.load(make_run("step_by_step"), batch_size=2)


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"id": f"r{n}", "input": t}) + "\n" for n, t in enumerate(TEXTS)))
    return path


def rows():
    return [Example(f"r{n}", text) for n, text in enumerate(TEXTS)]


def fails(capsys, *argv) -> str:
    assert cli.main([str(arg) for arg in argv]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize("name", MEASURES)
def test_measures_are_of_the_ranked_labels(predictor, name):
    found = list(uncertainties(predictor, iter(rows()), name))
    said = predictor.predict(TEXTS, label_by="rank")
    assert [row.id for row in found] == ["r0", "r1", "r2", "r3", "r4"]
    for row, prediction in zip(found, said, strict=True):
        assert row.label == prediction.label
        expected = MEASURES[name](list(prediction.label_probs.values()))
        assert row.uncertainty == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("method", ["step_by_step", "single_task"])
def test_free_text_by_the_mean_log_probability_of_what_is_written(make_run, method):
    student = distill_jax.load(make_run(method), batch_size=2)
    found = list(uncertainties(student, rows(), "log-prob"))
    for row, prediction in zip(found, student.predict(TEXTS), strict=True):
        assert row.label == prediction.label
        tokens = -prediction.label_score / row.uncertainty
        assert tokens == pytest.approx(round(tokens), abs=1e-3) and 1 <= round(tokens) <= 12
        assert math.isfinite(row.uncertainty) and row.uncertainty > 0.0


def test_the_default_is_the_margin_where_there_are_labels(predictor):
    assert list(uncertainties(predictor, rows())) == list(uncertainties(predictor, rows(), "margin"))
    with pytest.raises(UserError, match="unknown measure 'guess'"):
        next(uncertainties(predictor, rows(), "guess"))


def test_random_rows_are_seeded_and_each_as_likely():
    many = [Example(str(n), "x") for n in range(10)]
    assert at_random(many, 4, 1) == at_random(iter(many), 4, 1) != at_random(many, 4, 2)
    assert sorted(at_random(many, 99, 0)) == sorted(row.id for row in many)
    counts = collections.Counter(name for seed in range(2000) for name in at_random(many, 3, seed))
    assert set(counts) == {row.id for row in many}
    assert all(500 < count < 700 for count in counts.values())  # 600 expected, standard deviation 20.5


def test_the_command_gives_the_least_sure_of_the_rows_that_are_left(
    make_run, data, tmp_path, capsys, predictor
):
    run, output, have = make_run("step_by_step"), tmp_path / "ids.jsonl", tmp_path / "have.jsonl"
    command = ["select", str(data), "--run", run, "--count", "2", "--measure", "entropy"]
    assert cli.main([*command, "--output", str(output)]) == 0
    chosen = [json.loads(line) for line in output.read_text().splitlines()]
    expected = sorted(uncertainties(predictor, rows(), "entropy"), key=lambda row: -row.uncertainty)
    assert [row["id"] for row in chosen] == [row.id for row in expected[:2]]
    assert chosen[0]["uncertainty"] == pytest.approx(expected[0].uncertainty, abs=1e-5)
    assert chosen[0]["predicted_label"] == expected[0].label

    capsys.readouterr()
    have.write_text(json.dumps({"id": chosen[0]["id"], "teacher_label": "neutral"}) + "\n")
    assert cli.main([*command, "--exclude", str(have)]) == 0
    assert capsys.readouterr().out.split() == [row.id for row in expected[1:3]]


def test_the_command_without_a_run_draws_at_random(data, capsys):
    assert cli.main(["select", str(data), "--count", "3", "--seed", "5"]) == 0
    first = capsys.readouterr().out.split()
    assert len(set(first)) == 3 and set(first) <= {f"r{n}" for n in range(5)}
    assert cli.main(["select", str(data), "--count", "9"]) == 0
    out = capsys.readouterr()
    assert len(out.out.split()) == 5 and "5 rows only" in out.err


def test_mistakes_give_one_line(data, tmp_path, capsys):
    every = tmp_path / "all.txt"
    every.write_text("\n".join(f"r{n}" for n in range(5)))
    base = ["select", data, "--count", 2]
    assert "give its folder with --run" in fails(capsys, *base, "--measure", "margin")
    assert "no rows to choose from, 5 ids are excluded" in fails(capsys, *base, "--exclude", every)
    assert "none.txt: no such file" in fails(capsys, *base, "--exclude", tmp_path / "none.txt")
    assert "no such file" in fails(capsys, *base, "--run", tmp_path / "none")
    assert "cannot be written" in fails(capsys, *base, "--output", every / "ids.jsonl")
