"""The tasks in SeqIO, and that ours and SeqIO's features are the same tokens."""

import collections
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader

from distill_jax.data.prepare import prepare
from distill_jax.data.records import decode_row
from distill_jax.data.schema import Example
from distill_jax.data.sources import GeneratedSource
from distill_jax.data.views import TASK_IDS
from distill_jax.data.vocabularies import train_vocabulary
from distill_jax.errors import UserError
from distill_jax.tasks import registry
from distill_jax.tasks.definition import define_task
from distill_jax.tasks.registry import register_distillation_task

seqio = pytest.importorskip("seqio")
pytestmark = pytest.mark.slow  # TensorFlow takes seconds to import

LENGTHS = {"inputs": 40, "targets": 30}
FOREIGN = seqio.FunctionDataSource(lambda split, shuffle_files, seed=None: None, splits=["train"])
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


@pytest.fixture
def registries(monkeypatch):
    """Empty before a test; what it registers is gone after it."""
    monkeypatch.delenv("DISTILL_JAX_SENTENCEPIECE", raising=False)
    for name in (seqio.TaskRegistry, seqio.MixtureRegistry):
        monkeypatch.setattr(name, "_REGISTRY", {})


@pytest.fixture(params=["bytes", "sentencepiece"])
def task(request, monkeypatch, registries, model):
    """(task in SeqIO's registries and ours, vocabulary spec), for this test alone."""
    from distill_jax.t5x import seqio_tasks

    spec = "bytes"
    if request.param == "sentencepiece":
        spec = str(model)
        monkeypatch.setenv("DISTILL_JAX_SENTENCEPIECE", spec)
    source = GeneratedSource(birds, {"train": 40, "validation": 5})
    task = register_distillation_task("birds", source, label_metric_fns=(metric,), label_postprocess_fn=shout)
    seqio_tasks.register([task])
    return task, spec


def seqio_tokens(name, split):
    dataset = seqio.get_mixture_or_task(name).get_dataset(LENGTHS, split, shuffle=False)
    return [(row["inputs"].tolist(), row["targets"].tolist()) for row in dataset.as_numpy_iterator()]


def our_tokens(name, split, spec):
    task, views = registry.resolve(name)
    prepared = prepare(task, views, split, vocabulary=spec, task_feature_lengths=LENGTHS, pack=False)
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


@pytest.mark.parametrize("rate", [0.5, 1.5])
def test_the_mixture_draws_in_the_proportion_asked_for(task, rate):
    """Exactly: 400 labels and as many rationales as the rate says."""
    from distill_jax.t5x import seqio_tasks

    seqio_tasks.register([define_task("rated", task[0].source, rationale_rate=rate)])
    mixture = seqio.get_mixture_or_task("rated_step_by_step")
    assert sorted(mixture.get_rate(t) for t in mixture.tasks) == sorted([1.0, rate])
    dataset = mixture.get_dataset(LENGTHS, "train", shuffle=True, num_epochs=None, seed=1)
    drawn = itertools.islice(dataset.as_numpy_iterator(), round(400 * (1 + rate)))
    counts = collections.Counter(int(row["targets_task_ids"][0]) for row in drawn)
    assert counts == {TASK_IDS["label"]: 400, TASK_IDS["rationale"]: 400 * rate}


def test_mixture_takes_turns(task):
    """Label and rationale one to one, in every prefix, shuffled or not."""
    mixture = seqio.get_mixture_or_task("birds_step_by_step")
    for shuffle in (False, True):
        dataset = mixture.get_dataset(LENGTHS, "train", shuffle=shuffle, seed=1, num_epochs=None)
        ids = [int(row["targets_task_ids"][0]) for row in itertools.islice(dataset.as_numpy_iterator(), 100)]
        assert ids == [TASK_IDS["label"], TASK_IDS["rationale"]] * 50


def test_shards_are_a_partition(task, monkeypatch):
    monkeypatch.setenv("DISTILL_JAX_SOURCE_SHARDS", "3")
    source = seqio.TaskRegistry.get("birds_label").source
    names = source.list_shards("train")
    assert len(set(names)) == 3

    def inputs(shard_info=None):
        dataset = source.get_dataset("train", shard_info=shard_info)
        return [row["inputs"] for row in dataset.as_numpy_iterator()]

    shards = [inputs(seqio.ShardInfo(n, 3)) for n in range(3)]
    assert sorted(itertools.chain(*shards)) == sorted(inputs())
    assert all(shards)


def test_selected_examples_are_those_of_prepare(task):
    """LABEL_SOURCE and DATA_FRACTION take for T5X what they take for our engine."""
    from distill_jax.t5x import seqio_tasks

    name = seqio_tasks.select("birds_step_by_step", label_source="teacher", data_fraction=0.25, seed=4)
    assert seqio_tasks.select("birds_step_by_step", label_source="teacher", data_fraction=0.25, seed=4) == name
    prepared = prepare(
        *registry.resolve("birds_step_by_step", "teacher"),
        "train",
        vocabulary=task[1],
        task_feature_lengths=LENGTHS,
        pack=False,
        data_fraction=0.25,
        seed=4,
    )
    reader = ArrayRecordReader(str(prepared.path / "rows.array_record"))
    expected = [(s.inputs.tolist(), s.targets.tolist()) for s in (decode_row(r)[0] for r in reader.read_all())]
    mixture = seqio.get_mixture_or_task(name)
    found = [seqio_tokens(t.name, "train") for t in mixture.tasks]
    assert sorted(itertools.chain(*found)) == sorted(expected)
    assert len(seqio_tokens(mixture.tasks[0].name, "validation")) == 5  # the fraction is of train
    assert seqio_tasks.select("birds_label") == "birds_label"
    assert seqio_tasks.select_for_evaluation(name) == "birds_step_by_step"
    assert seqio_tasks.select_for_evaluation("birds_task_distillation") == "birds_standard"
    seqio.TaskRegistry.add("somebody_elses", source=FOREIGN, preprocessors=[], output_features={})
    assert seqio_tasks.select_for_evaluation("somebody_elses") == "somebody_elses"
    with pytest.raises(UserError, match="somebody_elses: LABEL_SOURCE and DATA_FRACTION need a task of our"):
        seqio_tasks.select("somebody_elses", num_examples=3)
    with pytest.raises(UserError, match="only our own engine shares"):
        seqio_tasks.select("birds_step_by_step_shared")
    with pytest.raises(UserError, match="unknown mixture or task 'birds_nothing'"):
        seqio_tasks.select("birds_nothing", label_source="teacher")
    with pytest.raises(UserError, match="LABEL_SOURCE 'gpt'"):
        seqio_tasks.select("birds_label", label_source="gpt")


def test_a_task_has_one_vocabulary(task, model):
    """What is in SeqIO stays: an unspecified vocabulary is that of the task, another one a plain error."""
    from distill_jax.t5x import seqio_tasks

    before = dict(seqio.TaskRegistry._REGISTRY)
    chosen = seqio_tasks.register([task[0]])
    assert seqio_tasks.register([task[0]], task[1]) == chosen == seqio_tasks.seqio_vocabulary(task[1])
    assert seqio.TaskRegistry._REGISTRY == before
    other = "bytes" if task[1] != "bytes" else str(model.parent)
    with pytest.raises(UserError, match="'birds_standard' is in SeqIO with another vocabulary"):
        seqio_tasks.register([task[0]], other)
    with pytest.raises(UserError, match="is in SeqIO with another vocabulary"):
        seqio_tasks.select("birds_label", vocabulary=other)
    assert seqio_tasks.own_vocabulary(chosen).encode("two birds") == chosen.encode("two birds")
    with pytest.raises(UserError, match="no such file"):
        seqio_tasks.seqio_vocabulary("nowhere.model")


def test_single_task_scores_label_and_rationale(task):
    single = seqio.TaskRegistry.get("birds_single_task")
    said = single.postprocess_fn("because. So the answer is: seven", example=None, is_target=False)
    assert said == {"rationale": "because.", "label": "SEVEN"}
    (metric_fn,) = single.metric_fns
    assert metric_fn([said], [said]) == {"same": 1.0, "rougeL": 1.0}


CACHED = """
from distill_jax.tasks.registry import register_distillation_task
from distill_jax.data.schema import Example
from distill_jax.data.sources import GeneratedSource


def generate(rng, name):
    number = int(rng.integers(0, 10_000))
    return Example(name, f"{number} fish?", f"{number}", f"{number}", f"There are {number} of them.")


register_distillation_task("fish", GeneratedSource(generate, {"train": 30, "validation": 4}))
"""


def test_offline_cache(registries, tmp_path, monkeypatch):
    """SeqIO's Beam pipeline writes what is made on the fly; `use_cached` reads it, ids and all."""
    from distill_jax.t5x import seqio_tasks

    pytest.importorskip("apache_beam", reason="requirements-beam.txt is not installed")
    (tmp_path / "fish_task.py").write_text(CACHED)
    cached = tmp_path / "cached"
    path = os.pathsep.join([str(tmp_path), *sys.path])
    environment = os.environ | {"PYTHONPATH": path, "DISTILL_JAX_SOURCE_SHARDS": "2"}
    command = [sys.executable, "-m", "seqio.scripts.cache_tasks_main", "--tasks=fish_(label|rationale)"]
    command += [f"--output_cache_dir={cached}", "--module_import=fish_task"]
    command += ["--module_import=distill_jax.t5x.tasks", "--min_shards=2"]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300)
    monkeypatch.syspath_prepend(str(tmp_path))
    fish = registry.get_task("fish", "fish_task")
    seqio_tasks.register([fish])
    monkeypatch.setattr(seqio.utils, "_GLOBAL_CACHE_DIRECTORIES", [str(cached)])

    def rows(use_cached):
        dataset = seqio.get_mixture_or_task("fish_step_by_step").get_dataset(
            LENGTHS, "train", shuffle=False, num_epochs=1, use_cached=use_cached
        )
        return sorted(
            tuple(tuple(row[name].tolist()) for name in ("inputs", "targets", "targets_task_ids"))
            for row in dataset.as_numpy_iterator()
        )

    assert rows(True) == rows(False)
    assert len(rows(True)) == 60


def test_metrics_and_postprocess_are_the_same_objects(task):
    label = seqio.TaskRegistry.get("birds_label")
    assert list(label.metric_fns) == [metric]
    assert label.postprocess_fn("x") == "X"
    rationale = seqio.TaskRegistry.get("birds_rationale")
    assert list(rationale.metric_fns) == list(task[0].rationale_metric_fns)
    assert rationale.postprocess_fn("x") == "x"
    assert set(label.splits) == {"train", "validation"}


def test_registering_a_task_of_ours_does_not_touch_seqio(task):
    from distill_jax.t5x import seqio_tasks

    later = register_distillation_task("later", task[0].source)
    assert "later_label" not in seqio.TaskRegistry.names()
    seqio_tasks.register()  # all there are
    assert seqio_tasks.task_of("later_step_by_step") is later
    assert {"later_label", "entailment_label", "svamp_rationale"} <= set(seqio.TaskRegistry.names())
    assert seqio_tokens("later_label", "train") == seqio_tokens("birds_label", "train")


def test_the_module_adds_all_tasks(tmp_path):
    """A user's module before it, as T5X and `--module_import` take both; the environment's vocabulary."""
    (tmp_path / "fish_task.py").write_text(CACHED)
    train_vocabulary([f"{n} fish?" for n in range(200)], 350).save(tmp_path)
    code = """
import fish_task, distill_jax.t5x.tasks, seqio
from distill_jax.t5x import seqio_tasks
assert {"fish_label", "svamp_label", "cqa_rationale"} <= set(seqio.TaskRegistry.names())
assert "fish_step_by_step" in seqio.MixtureRegistry.names()
print(type(seqio_tasks.vocabulary_of("fish_label")).__name__)
"""
    path = os.pathsep.join([str(tmp_path), *sys.path])
    found = {}
    for spec in ("", str(tmp_path / "vocabulary.model")):
        environment = os.environ | {"PYTHONPATH": path, "DISTILL_JAX_SENTENCEPIECE": spec}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found[spec] = done.stdout.strip()
    assert list(found.values()) == ["ByteVocabulary", "SentencePieceVocabulary"]


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
