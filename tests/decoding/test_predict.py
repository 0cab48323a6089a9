import math

import pytest

from distill_jax.config import Decoding
from distill_jax.data.schema import Example
from distill_jax.data.views import ANSWER
from distill_jax.decoding import predict as predict_module
from distill_jax.decoding.engine import Score
from distill_jax.decoding.predict import (
    PREDICTED,
    Choice,
    Prediction,
    Request,
    needed_views,
    own_decoding,
    predict,
    ranking,
)
from distill_jax.decoding.student import load_student
from distill_jax.errors import UserError
from distill_jax.evaluation.evaluator import Evaluator, read_split
from distill_jax.evaluation.significance import share_interval
from distill_jax.evaluation.summary import summarize
from distill_jax.evaluation.tables import class_tables, metrics_table


def test_ranking_by_hand():
    scores = [Score(-2.0, 1), Score(-3.0, 3), Score(-9.0, 3)]
    mean = ranking(["a", "b", "c"], scores, normalize=True)
    assert mean["label"] == "b" and mean["label_score"] == -1.0
    assert [choice.text for choice in mean["labels"]] == ["b", "a", "c"]
    total = ranking(["a", "b", "c"], scores, normalize=False)
    assert total["label"] == "a" and total["label_score"] == -2.0
    # The probabilities are those of the sums either way: 1, e**-1 and e**-7 over their sum.
    whole = 1 + math.exp(-1) + math.exp(-7)
    assert mean["label_probs"] == total["label_probs"]
    assert mean["label_probs"]["b"] == pytest.approx(math.exp(-1) / whole)
    assert total["label_confidence"] == pytest.approx(1 / whole)


def test_scores_far_apart_do_not_overflow():
    found = ranking(["a", "b"], [Score(-1e5, 1), Score(-10.0, 1)], normalize=False)
    assert found["label_probs"] == {"a": 0.0, "b": 1.0}


def test_a_row_has_what_was_asked():
    assert Prediction(label="x", label_score=-1.0).row() == {"predicted_label": "x", "label_score": -1.0}
    some = (Choice("x", -1.0), Choice("y", -2.0))
    full = Prediction("x", -1.0, 0.5, {"x": 0.7, "y": 0.3}, some, "why", -2.0, some)
    assert set(full.row()) == PREDICTED
    assert full.row()["predicted_labels"] == [{"text": "x", "score": -1.0}, {"text": "y", "score": -2.0}]


METHODS = {
    "standard": {"label"},
    "task_distillation": {"label"},
    "step_by_step": {"label", "rationale"},
    "step_by_step_shared": {"label", "rationale"},
    "single_task": {"label", "rationale"},
    "rationale_input": {"label"},
    "soft_labels": {"label"},
    "logit_distillation": {"label", "rationale"},
    "rationale": {"rationale"},
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_evaluated(method, make_run):
    student = load_student(make_run(method))
    engine = student.engine(None, 8)
    found = Evaluator(student, batch_size=8, num_examples=5).evaluate(engine.params, "test")
    assert len(found.rows) == 5
    for name in ("label", "rationale"):
        there = name in METHODS[method]
        assert all((f"predicted_{name}" in row) == there for row in found.rows)
        assert any(metric.startswith(f"{name}_") for metric in found.metrics) == there
    figures = summarize(student.task, found.examples, found.rows)
    assert ("confusion" in figures) == ("label" in METHODS[method])
    assert ("rationale_agreement_rows" in figures) == (len(METHODS[method]) == 2)


@pytest.mark.parametrize("method", ["step_by_step", "single_task"])
def test_labels_are_ranked(method, make_run):
    student = load_student(make_run(method))
    task = student.task
    engine = student.engine(None, 8)
    found = Evaluator(student, 8, Request(label_by="rank"), num_examples=4).evaluate(engine.params, "test")
    figures = summarize(task, found.examples, found.rows)
    assert 0.0 <= figures["label_calibration_error"] <= 1.0
    assert sum(map(sum, figures["confusion"])) == 4
    view = student.views[0]
    for row, example in zip(found.rows, found.examples, strict=True):
        assert row["predicted_label"] in task.classes
        assert sum(row["predicted_label_probs"].values()) == pytest.approx(1.0)
        # The probabilities are those of whole targets, rationale and all.
        start = row["predicted_rationale"] + ANSWER if view.answer else ""
        [scores] = engine.score([view.inputs(example)], [[start + label for label in task.classes]])
        exact = [math.exp(score.log_prob - scores[0].log_prob) for score in scores]
        for label, value in zip(task.classes, exact, strict=True):
            assert row["predicted_label_probs"][label] == pytest.approx(value / sum(exact), rel=1e-2)
    titles = [table.title for table in class_tables({"step": 3, **figures})]
    assert len(titles) == 2 and "step 3" in titles[0]
    assert metrics_table("title", [{"step": 3, **found.metrics, **figures}]).row_count == len(
        found.metrics
    ) + len(figures) - len(("classes", "confusion"))


def test_choices_of_the_row_come_before_the_classes(make_run):
    student = load_student(make_run("standard"))
    request = Request(label_by="rank")
    examples = [Example("1", "x", choices=("p", "q")), Example("2", "y")]
    views = needed_views(student.views, request, "entailment")
    found = predict(student.engine(None, 4), examples, views, request, targets_length=8, classes=("r", "s"))
    assert [set(one.label_probs) for one in found] == [{"p", "q"}, {"r", "s"}]
    with pytest.raises(
        UserError, match="2: no labels to rank: .* with --classes .CLASSES. of `train`, or .* --choices-c"
    ):
        predict(student.engine(None, 4), examples, views, request, targets_length=8)


def test_constrained_labels_are_choices_of_the_row_or_classes(make_run):
    student = load_student(make_run("step_by_step"))
    request = Request(label_by="constrain")
    examples = [Example("1", "x", choices=("p", "pq")), Example("2", "y"), Example("3", "z", choices=("one",))]
    views = needed_views(student.views, request, "entailment")
    found = predict(student.engine(None, 4), examples, views, request, targets_length=8, classes=("r", "s"))
    for one, labels in zip(found, [("p", "pq"), ("r", "s"), ("one",)], strict=True):
        assert one.label in labels
        assert one.label_confidence == pytest.approx(math.exp(one.label_score))
    assert found[2].label_score == 0.0
    with pytest.raises(UserError, match="2: no labels to constrain"):
        predict(student.engine(None, 4), examples, views, request, targets_length=8)
    after = load_student(make_run("single_task")).views
    with pytest.raises(UserError, match="a rationale before the label"):
        needed_views(after, request, "entailment_single_task")


def test_what_a_student_does_not_predict_is_refused(make_run):
    views = load_student(make_run("standard")).views
    with pytest.raises(UserError, match="a student of entailment_standard predicts no rationale"):
        needed_views(views, Request(rationale=True), "entailment_standard")
    with pytest.raises(UserError, match="expected one of generate, rank"):
        Request(label_by="guess")


def test_a_label_may_be_as_long_as_a_target(make_run):
    student = load_student(make_run("step_by_step"))
    lengths = []

    class Engine:
        def generate(self, texts, length, decoding, streams, start):
            lengths.append(length)
            return [(predict_module.Hypothesis("text", -1.0, -1.0, (5, 1)),) for _ in texts]

    request = Request(rationale=True, decoding=Decoding())
    views = needed_views(student.views, request, "name")
    [found] = predict(Engine(), [Example("1", "x")], views, request, targets_length=300)
    assert lengths == [300, 300] and found.label_confidence == pytest.approx(math.exp(-1.0))


def test_label_and_rationale_are_drawn_with_noise_of_their_own(make_run):
    views = load_student(make_run("step_by_step")).views
    decodings = [
        own_decoding(view, Decoding(temperature=1.0, seed=seed)) for view in views for seed in range(50)
    ]
    assert len({decoding.seed for decoding in decodings}) == 100


def test_figures_by_hand(make_run):
    task = load_student(make_run("standard")).task
    examples = [
        Example("1", "x", label="entailment", teacher_label="neutral"),
        Example("2", "y", label="neutral", teacher_label="neutral"),
        Example("3", "z", teacher_label="neutral"),
    ]
    rows = [
        {"correct": True, "predicted_label": "entailment", "predicted_rationale": "A fish and a fish."},
        {"correct": False, "predicted_label": "entailment", "predicted_rationale": "A fish and a tool."},
        {"predicted_label": "neutral", "predicted_rationale": "Nobody can tell."},
    ]
    figures = summarize(task, examples, rows)
    assert figures["label_accuracy_interval"] == list(share_interval(1, 2))
    assert figures["rationale_agreement"] == pytest.approx(1 / 2)
    assert figures["rationale_agreement_rows"] == pytest.approx(2 / 3)
    assert figures["confusion"] == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert figures["macro_f1"] == pytest.approx((2 / 3) / 3)
    assert "label_calibration_error" not in figures


def test_a_split_that_is_not_there_is_named(make_run):
    task = load_student(make_run("standard")).task
    with pytest.raises(UserError, match="has no split 'tset': validation, test, train"):
        read_split(task, "tset")
