import subprocess
import sys

import pytest

import distill_jax
from distill_jax.decoding import continuous, engine
from distill_jax.errors import UserError


@pytest.fixture(scope="module")
def student(make_run):
    return distill_jax.load(make_run("step_by_step"), batch_size=8)


def test_predictions_come_in_order_and_do_not_depend_on_the_company(student):
    texts = [f"Premise: {'a' * n}" for n in (30, 1, 12)]
    together = student.predict(texts, rationale=True)
    alone = [student.predict([text], rationale=True)[0] for text in texts]
    for one, other in zip(together, alone, strict=True):
        assert (one.label, one.rationale) == (other.label, other.rationale)
        assert one.label_score == pytest.approx(other.label_score, abs=1e-4)
    assert together[0].label_probs is None and student.predict([]) == []


def test_later_calls_compile_nothing(student):
    def compiled():
        programs = (continuous._admit, continuous._decode_until, engine._sample, engine._encode, engine._score)
        return [program._cache_size() for program in programs]

    for count in (1, 3, 8, 20):
        student.predict(["x" * 20] * count)
        student.predict(["x" * 20] * count, label_by="rank")
        student.predict(["x" * 20] * count, label_by="constrain")
    before = compiled()
    for count in (2, 4, 5, 7, 19):
        student.predict(["y" * 22] * count)
        student.predict(["y" * 22] * count, label_by="rank")
        student.predict(["y" * 22] * count, label_by="constrain")
    assert compiled() == before


def test_samples_are_seeded(student):
    settings = {"temperature": 1.0, "n_best": 2}
    first, again = (student.predict(["x", "y"], seed=1, **settings) for _ in range(2))
    assert [p.labels for p in first] == [p.labels for p in again]
    assert student.predict(["x", "y"], seed=2, **settings) != first
    [one] = student.predict(["y"], seed=1, streams=[1], **settings)
    assert [choice.text for choice in one.labels] == [choice.text for choice in first[1].labels]
    assert len(one.labels) == 2 and one.label == one.labels[0].text


def test_labels_are_ranked_by_row_or_task(student):
    ranked = student.predict([{"input": "x", "choices": ["p", "q"]}, "x"], label_by="rank")
    assert list(ranked[0].label_probs) == ["p", "q"]
    assert list(ranked[1].label_probs) == list(student.student.task.classes)


def test_a_rationale_can_be_given_or_must(make_run):
    reads = distill_jax.load(make_run("rationale_input"))
    with_one = reads.predict([{"input": "x", "rationale": "because"}])
    assert isinstance(with_one[0].label, str)
    with pytest.raises(UserError, match="input 0: no rationale"):
        reads.predict(["x"])


def test_mistakes_are_named(student, make_run, tmp_path):
    for inputs, message in (
        ("x", "a list of inputs"),
        ([3], "input 0: expected a text"),
        (["x", {"text": "y"}], "input 1"),
        ([{"input": "x", "choices": "pq"}], "list of texts under `choices`"),
        ([{"input": "x", "choices": 5}], "list of texts under `choices`, got 5"),
        ([{"input": "x", "rationale": 3}], "text under `rationale`"),
    ):
        with pytest.raises(UserError, match=message):
            student.predict(inputs)
    with pytest.raises(UserError, match="predicts no rationale"):
        distill_jax.load(make_run("standard")).predict(["x"], rationale=True)
    with pytest.raises(UserError, match="no such file"):
        distill_jax.load(str(tmp_path))
    with pytest.raises(UserError, match="no checkpoint of step 7"):
        distill_jax.load(make_run("standard"), step=7)


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, distill_jax; print(sorted({'jax', 'numpy', 'flax', 'tensorflow'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
