"""What an evaluation measures, leaves out, and chooses a checkpoint by, with predictions made up."""

import dataclasses
import types

import pytest

from distill_jax.data.schema import Example
from distill_jax.decoding.predict import Prediction
from distill_jax.errors import UserError
from distill_jax.evaluation import evaluator
from distill_jax.evaluation.evaluator import Evaluator
from distill_jax.evaluation.summary import summarize
from distill_jax.scoring.metrics import accuracy
from distill_jax.tasks.definition import define_task


class Rows:
    splits = ("validation",)

    def __init__(self, rows):
        self.rows = rows

    def examples(self, split):
        return iter(self.rows)


def f1(targets, predictions):
    """A metric on a scale to 100 that is a mean over rows."""
    return {"f1": 100.0 * accuracy(targets, predictions)["accuracy"]}


def correlation(targets, predictions):
    if len(targets) < 2:
        raise ValueError("one row has no correlation")
    return {"pearson": 0.25}


@pytest.fixture
def evaluate(monkeypatch):
    """(rows, predicted labels, changes of the task) -> evaluator and evaluation."""

    def run(rows, labels, rationales=None, **changes):
        task = define_task("made_up", Rows(rows))
        task = dataclasses.replace(task, **changes)
        predictions = [
            Prediction(label=label, rationale=rationale)
            for label, rationale in zip(labels, rationales or [None] * len(labels), strict=True)
        ]
        monkeypatch.setattr(evaluator, "predict", lambda *args, **kwargs: predictions)
        student = types.SimpleNamespace(
            model=None,
            vocabulary=None,
            task=task,
            views=task.views("standard" if rationales is None else "step_by_step"),
            lengths={"inputs": 8, "targets": 8},
        )
        found = Evaluator(student, batch_size=2)
        return found, found.evaluate(None, "validation")

    return run


def test_without_reference_labels_there_is_no_accuracy(evaluate):
    rows = [Example("1", "x", teacher_label="a"), Example("2", "y", teacher_label="b"), Example("3", "z")]
    found, evaluation = evaluate(rows, ["a", "a", "a"], ["w"] * 3)
    assert evaluation.metrics == {"examples": 3.0, "teacher_agreement": 0.5}
    assert not any("correct" in row for row in evaluation.rows)
    assert found(None, "validation") == evaluation.metrics
    losses = {"label_loss": 2.0, "label_token_accuracy": 0.9, "rationale_loss": 1.0}
    assert found.student.task.best_by(losses | evaluation.metrics) == ("teacher_agreement", 0.5)
    assert summarize(found.student.task, evaluation.examples, evaluation.rows) == {
        "rationale_agreement_rows": 0.0
    }


def test_without_any_label_the_loss_decides(evaluate):
    found, evaluation = evaluate([Example("1", "x")], ["a"])
    assert evaluation.metrics == {"examples": 1.0}
    losses = {"label_loss": 2.0, "label_token_accuracy": 0.9, "a_loss": 1.0}
    assert found.student.task.best_by(losses | evaluation.metrics) == ("label_loss", -2.0)
    assert found.student.task.best_by({"rationale_loss": 1.0}) == ("rationale_loss", -1.0)
    assert found.student.task.best_by({"examples": 1.0}) is None


def test_rows_without_a_reference_label_do_not_count(evaluate):
    rows = [Example("1", "x", label="a", teacher_label="a"), Example("2", "y", teacher_label="a")]
    _, evaluation = evaluate(rows, ["a", "b"])
    assert evaluation.metrics["label_accuracy"] == evaluation.metrics["teacher_accuracy"] == 1.0
    assert evaluation.metrics["teacher_agreement"] == 0.5
    assert [row.get("correct") for row in evaluation.rows] == [True, None]


def test_a_metric_of_another_name_is_the_main_one(evaluate):
    rows = [Example("1", "x", label="a", teacher_label="b"), Example("2", "y", label="b", teacher_label="b")]
    found, evaluation = evaluate(rows, ["a", "a"], label_metric_fns=(f1,))
    assert evaluation.metrics["label_f1"] == evaluation.metrics["teacher_f1"] == 50.0
    assert evaluation.metrics["teacher_agreement"] == 0.0
    assert [row["correct"] for row in evaluation.rows] == [True, False]
    assert found.student.task.best_by({"label_loss": 2.0, **evaluation.metrics}) == ("label_f1", 50.0)
    assert [found.student.task.agrees(example) for example in rows] == [False, True]
    # 50 of 100 is not the share of the right rows: it has no interval.
    assert "label_f1_interval" not in summarize(found.student.task, evaluation.examples, evaluation.rows)


def test_a_metric_without_a_value_on_one_row_leaves_correct_out(evaluate):
    rows = [Example("1", "x", label="1", teacher_label="1"), Example("2", "y", label="2", teacher_label="3")]
    found, evaluation = evaluate(rows, ["1", "2"], label_metric_fns=(correlation,))
    assert not any("correct" in row for row in evaluation.rows)
    assert found.student.task.best_by(evaluation.metrics) == ("label_pearson", 0.25)
    assert [found.student.task.agrees(example) for example in rows] == [True, False]  # then by text


def test_the_task_says_which_metric_is_the_main_one(evaluate):
    rows = [Example("1", "x", label="a")]
    both = (accuracy, f1)
    found, evaluation = evaluate(rows, ["a"], label_metric_fns=both)
    assert found.student.task.best_by(evaluation.metrics) == ("label_accuracy", 1.0)
    found, evaluation = evaluate(rows, ["a"], label_metric_fns=both, main_metric="f1")
    assert found.student.task.best_by(evaluation.metrics) == ("label_f1", 100.0)
    with pytest.raises(UserError, match="made_up: main_metric 'bleu' is none of its metrics accuracy, f1"):
        evaluate(rows, ["a"], label_metric_fns=both, main_metric="bleu")


def test_rouge_l_over_no_rationale_is_absent(evaluate):
    rows = [Example("1", "x", label="a"), Example("2", "y", label="a", rationale="so it is")]
    assert "rationale_rougeL" not in evaluate(rows[:1], ["a"], ["why"])[1].metrics
    assert evaluate(rows, ["a", "a"], ["why", "so it is"])[1].metrics["rationale_rougeL"] == 1.0
