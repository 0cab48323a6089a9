"""The demo with a teacher: figures by hand, and a tiny run through training, the server, HTTP and the store."""

import dataclasses
import json
import math

import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("openai")

from distill_jax.cli import main as cli
from distill_jax.experiments.demo import students, teacher_report
from distill_jax.experiments.demo.with_teacher import Settings
from distill_jax.serving import app
from distill_jax.serving.generation import Generation, Piece
from distill_jax.tasks.entailment import CLASSES
from distill_jax.training.preemption import EXIT_STATUS, Preempted


def line(method, seed, accuracy, seconds):
    steps = {"labels": "reference", "steps": 8, "parameters": 287_552}
    return {"method": method, "seed": seed, "accuracy": accuracy, "seconds": seconds, **steps}


FIGURES = {
    "teacher": {"accuracy": 0.95, "parameters": 591_232, "seconds": 60.2},
    "annotation": {
        "calls": 30,
        "rows": 20,
        "answered": 20,
        "seconds": 5.0,
        "accuracy": {"value": 0.9, "low": 0.7, "high": 0.97},
        "shown": {"wrong": [{"id": "train-1", "input": "<b>", "reference": "neutral", "completion": "So."}]},
    },
    "runs": [
        line(method, seed, base + 0.1 * seed, 10.0 + seed)
        for seed in (0, 1)
        for method, base in (("standard", 0.5), ("step_by_step", 0.7), ("soft_labels", 0.6))
    ],
}


def test_the_table_by_hand():
    teacher, standard, step_by_step, soft = teacher_report.table_rows(FIGURES)
    assert teacher[0] == "teacher" and teacher[2:] == ["0.59M parameters, reason, label", "95.0%", "60"]
    assert standard[:2] == ["standard", "reference labels"]
    assert standard[2:] == ["0.29M parameters, label", "55.0% (50.0 / 60.0)", "10"]
    assert step_by_step[3] == "75.0% (70.0 / 80.0)" and soft[3] == "65.0% (60.0 / 70.0)"
    assert all(len(row) == len(teacher_report.COLUMNS) for row in (teacher, standard, step_by_step, soft))


def test_the_report_says_what_was_asked_and_escapes():
    page = teacher_report.report(FIGURES, Settings(), 2)
    assert "Teacher calls over HTTP: 30, for 20 rows" in page and "90.0%" in page
    assert "&lt;b&gt;" in page and "distill-jax demo --with-teacher --task entailment --seeds 2" in page


def answers(engine, form, examples, decoding, streams, *, targets_length, with_pieces):
    """In place of `serving.generation.generate`: two steps of training teach a teacher no form of an answer."""
    del engine, form, decoding, streams, targets_length
    assert with_pieces
    said = []
    for example in examples:
        label, other = CLASSES[len(example.input) % 3], CLASSES[(len(example.input) + 1) % 3]
        likeliest = ((label, math.log(0.8)), (other, math.log(0.2)))
        parts = [Piece("A fish and a bird.", -0.1, ()), Piece(" So the answer is: ", 0.0, ())]
        pieces = (*parts, Piece(label, math.log(0.8), likeliest))
        said.append([Generation("".join(piece.text for piece in pieces), 9, True, pieces)])
    return said


@pytest.mark.slow
def test_the_whole_of_it_at_a_small_scale_and_with_another_seed(
    tmp_path, monkeypatch, capsys, small_entailment
):
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(app, "generate", answers)
    small = Settings(rows=12, teacher_steps=2, steps=2)
    monkeypatch.setattr(teacher_report, "Settings", lambda task: small)
    shape = {"num_encoder_layers": 1, "num_decoder_layers": 1, "mlp_dim": 32}
    student = dataclasses.replace(students.STUDENT, emb_dim=16, **shape)
    monkeypatch.setattr(students.train, "__defaults__", (student,))
    monkeypatch.setattr(students, "TEACHER", dataclasses.replace(student, emb_dim=32))
    output = tmp_path / "out"
    command = ["demo", "--with-teacher", "--output", str(output)]
    assert cli.main(command) == 0
    printed = capsys.readouterr().out
    written = json.loads((output / "results.json").read_text())
    assert [run["method"] for run in written["runs"]] == ["standard", "step_by_step", "soft_labels"]
    assert [run["labels"] for run in written["runs"]] == ["reference", "teacher", "teacher"]
    assert all(0.0 <= run["accuracy"] <= 1.0 for run in [written["teacher"], *written["runs"]])
    assert written["teacher"]["parameters"] > 1.5 * written["runs"][0]["parameters"]
    assert written["annotation"]["calls"] == written["annotation"]["rows"] == 12
    assert "serving teacher-2 on http://127.0.0.1:" in printed and "soft_labels" in printed
    assert "<table>" in (output / "report.html").read_text()

    rows = [json.loads(text) for text in (output / "runs/annotated.jsonl").read_text().splitlines()]
    for row in rows:
        place = len(row["input"]) % 3
        assert row["teacher_label"] == CLASSES[place] and row["rationale"] == "A fish and a bird."
        expected = {place: 0.8, (place + 1) % 3: 0.2, (place + 2) % 3: 0.0}
        assert row["label_probs"] == pytest.approx([expected[n] for n in range(3)], abs=1e-4)
    right = sum(row["label"] == row["teacher_label"] for row in rows)
    assert written["annotation"]["accuracy"]["value"] == pytest.approx(right / 12)

    store = (output / "runs/completions.jsonl").read_text()
    assert cli.main([*command, "--seeds", "2"]) == 0  # goes on from there
    more = json.loads((output / "results.json").read_text())
    assert (output / "runs/completions.jsonl").read_text().startswith(store)
    assert more["annotation"]["calls"] == more["annotation"]["rows"] == 24
    assert [run["seed"] for run in more["runs"]] == [0, 0, 0, 1, 1, 1]
    for before, after in zip(written["runs"], more["runs"], strict=False):
        assert after["accuracy"] == before["accuracy"]


def test_mistakes_give_one_line(tmp_path, capsys):
    for flags, message in (
        (["--task", "svamp"], "made for the task entailment"),
        (["--seeds", "0"], "expected a whole number of at least 1"),
        (["--output", "/dev/null/x"], "--output /dev/null/x: cannot be made"),
    ):
        assert cli.main(["demo", "--with-teacher", "--output", str(tmp_path), *flags]) == 1
        (told,) = capsys.readouterr().err.splitlines()
        assert told.startswith("error: ") and message in told


def test_a_run_that_is_told_to_stop_says_so(monkeypatch, capsys):
    def stopped(**settings):
        raise Preempted("told to stop: saved at step 3 of 9")

    monkeypatch.setattr(teacher_report, "run", stopped)
    assert cli.main(["demo", "--with-teacher"]) == EXIT_STATUS
    assert capsys.readouterr().err == (
        "told to stop: saved at step 3 of 9; the same command resumes from there\n"
    )


def test_a_package_that_is_missing_is_named(monkeypatch, capsys):
    from distill_jax.cli import demo

    monkeypatch.setattr(demo, "WITH_TEACHER", ("json", "no_such_package"))
    assert cli.main(["demo", "--with-teacher"]) == 1
    told = capsys.readouterr().err
    assert "needs no_such_package: pip install 'distill_jax[serve,teachers]'" in told
