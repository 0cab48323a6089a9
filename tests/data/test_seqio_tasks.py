"""The tasks in SeqIO, and that ours and SeqIO's features are the same tokens."""

import itertools

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader

from distill_jax.data import registry
from distill_jax.data.prepare import prepare
from distill_jax.data.records import decode_row
from distill_jax.data.registry import register_distillation_task
from distill_jax.data.schema import Example
from distill_jax.data.sources import GeneratedSource
from distill_jax.data.vocabularies import train_vocabulary

seqio = pytest.importorskip("seqio")
pytestmark = pytest.mark.slow  # TensorFlow takes seconds to import

LENGTHS = {"inputs": 40, "targets": 30}
VIEWS = ("standard", "task_distillation", "label", "rationale", "label_teacher")


def birds(rng, name):
    number = int(rng.integers(0, 1000))
    why = f"Naïve counting of {number} birds\nand 1 more. " * int(rng.integers(1, 3))
    rationale = None if number % 7 == 0 else why
    return Example(name, f"{number} birds\nand</s><one>?", f"{number + 1}", f"{number + 2}", rationale)


def shout(text, example=None, is_target=False):
    del example, is_target
    return text.upper()


def metric(targets, predictions):
    return {"same": float(np.mean([t == p for t, p in zip(targets, predictions, strict=True)]))}


@pytest.fixture
def model(tmp_path):
    texts = [f"{n} birds and {n + 1} <one>?" for n in range(200)]
    train_vocabulary(texts, 350).save(tmp_path)
    return tmp_path / "vocabulary.model"


@pytest.fixture(params=["bytes", "sentencepiece"])
def task(request, monkeypatch, model):
    """(task in SeqIO's registries and ours, vocabulary spec), for this test alone."""
    monkeypatch.setattr(registry, "_tasks", {})
    for name in (seqio.TaskRegistry, seqio.MixtureRegistry):
        monkeypatch.setattr(name, "_REGISTRY", dict(name._REGISTRY))
    spec = "bytes"
    if request.param == "sentencepiece":
        spec = str(model)
        monkeypatch.setenv("DISTILL_JAX_SENTENCEPIECE", spec)
    source = GeneratedSource(birds, {"train": 40, "validation": 5})
    task = register_distillation_task("birds", source, label_metric_fns=(metric,), label_postprocess_fn=shout)
    return task, spec


def seqio_tokens(name, split):
    dataset = seqio.get_mixture_or_task(name).get_dataset(LENGTHS, split, shuffle=False)
    return [(row["inputs"].tolist(), row["targets"].tolist()) for row in dataset.as_numpy_iterator()]


def our_tokens(name, split, spec):
    prepared = prepare(name, split, vocabulary=spec, task_feature_lengths=LENGTHS, pack=False)
    reader = ArrayRecordReader(str(prepared.path / "rows.array_record"))
    segments = [decode_row(record)[0] for record in reader.read_all()]
    return [(s.inputs.tolist(), s.targets.tolist()) for s in segments]


def test_same_tokens(task):
    """Ids, the cut at the lengths, and the end token after it."""
    for view in VIEWS:
        theirs = seqio_tokens(f"birds_{view}", "train")
        assert our_tokens(f"birds_{view}", "train", task[1]) == theirs
        assert all(inputs[-1] == targets[-1] == 1 for inputs, targets in theirs)
    assert max(len(targets) for _, targets in seqio_tokens("birds_rationale", "train")) == 30


def test_mixture(task):
    """Both views at rate 1, and in ours the same segments."""
    mixture = seqio.get_mixture_or_task("birds_step_by_step")
    assert {t.name: mixture.get_rate(t) for t in mixture.tasks} == {
        "birds_label": 1.0,
        "birds_rationale": 1.0,
    }
    dataset = mixture.get_dataset(LENGTHS, "train", shuffle=False, num_epochs=None)
    drawn = {tuple(row["inputs"].tolist()) for row in itertools.islice(dataset.as_numpy_iterator(), 400)}
    ours = our_tokens("birds_step_by_step", "train", task[1])
    assert drawn == {tuple(inputs) for inputs, _ in ours}
    views = seqio_tokens("birds_label", "train") + seqio_tokens("birds_rationale", "train")
    assert sorted(ours) == sorted(views)
    teacher = seqio.get_mixture_or_task("birds_step_by_step_teacher")
    assert {t.name for t in teacher.tasks} == {"birds_label_teacher", "birds_rationale"}


@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_the_mixture_draws_in_the_proportion_asked_for(task, rate):
    """1,500 draws, within four standard deviations."""
    register_distillation_task("rated", task[0].source, rationale_rate=rate)
    mixture = seqio.get_mixture_or_task("rated_step_by_step")
    dataset = mixture.get_dataset(LENGTHS, "train", shuffle=False, num_epochs=None, seed=1)
    label = seqio.get_mixture_or_task("rated_label").get_dataset(LENGTHS, "train", shuffle=False)
    of_label = {tuple(row["inputs"].tolist()) for row in label.as_numpy_iterator()}
    drawn = itertools.islice(dataset.as_numpy_iterator(), 1500)
    labels = sum(tuple(row["inputs"].tolist()) in of_label for row in drawn)
    expected = 1 / (1 + rate)
    assert abs(labels / 1500 - expected) < 4 * (expected * (1 - expected) / 1500) ** 0.5


def test_metrics_and_postprocess_are_the_same_objects(task):
    label = seqio.TaskRegistry.get("birds_label")
    assert list(label.metric_fns) == [metric]
    assert label.postprocess_fn("x") == "X"
    rationale = seqio.TaskRegistry.get("birds_rationale")
    assert list(rationale.metric_fns) == list(task[0].rationale_metric_fns)
    assert rationale.postprocess_fn("x") == "x"
    assert set(label.splits) == {"train", "validation"}


def test_registered_twice(task):
    again = register_distillation_task(
        "birds", task[0].source, label_metric_fns=(metric,), label_postprocess_fn=shout
    )
    assert registry.get_task("birds") is again
    assert seqio_tokens("birds_label", "validation")


def test_registered_for_the_engine_first(task):
    """A process that imported a module for the engine gets its SeqIO tasks by asking."""
    from distill_jax.data import seqio_tasks

    with registry.without_seqio():
        later = register_distillation_task("later", task[0].source)
    assert "later_label" not in seqio.TaskRegistry.names()
    seqio_tasks.register(later)
    seqio_tasks.register(later)
    assert seqio_tokens("later_label", "train") == seqio_tokens("birds_label", "train")


def test_seqio_evaluator_scores_as_we_do(task):
    """SeqIO's own evaluation calls our metric functions with what they expect."""
    evaluator = seqio.Evaluator(
        "birds_label",
        feature_converter=seqio.EncDecFeatureConverter(pack=False),
        eval_split="validation",
        sequence_length=LENGTHS,
    )
    targets = [e.label.upper() for e in task[0].source.examples("validation")]
    vocabulary = seqio.TaskRegistry.get("birds_label").output_features["targets"].vocabulary

    def predict(dataset):
        ids = [vocabulary.encode(text) for text in (*targets[:-1], "0")]
        return list(enumerate([*row, *[0] * (20 - len(row))] for row in ids))

    metrics, _ = evaluator.evaluate(
        compute_metrics=True, step=0, predict_fn=predict, predict_with_aux_fn=None, score_fn=None
    )
    assert metrics.result()["birds_label"]["same"] == pytest.approx(4 / 5)
