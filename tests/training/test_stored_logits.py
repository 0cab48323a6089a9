"""A teacher's stored next tokens, against the teacher beside the student."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny_student import TINY

from distill_jax.config import TrainConfig
from distill_jax.data.loader import Loader
from distill_jax.data.prepare import prepare
from distill_jax.data.vocabularies import ByteVocabulary
from distill_jax.errors import UserError
from distill_jax.models.t5 import Transformer
from distill_jax.tasks import registry
from distill_jax.training import trainer
from distill_jax.training.initial import load_teacher
from distill_jax.training.losses import LogitDistillation, step_by_step_weights
from distill_jax.training.step import make_eval_step
from distill_jax.training.stored_logits import store_top_k

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILL_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def train(folder, **changes):
    options = {
        **dataclasses.asdict(TINY),
        "model_dir": str(folder),
        "mixture_or_task_name": "entailment_step_by_step",
        "task_feature_lengths": {"inputs": 96, "targets": 48},
        "vocabulary": "bytes",
        "schedule": "constant",
        "learning_rate": 1e-2,
        "batch_size": 4,
        "train_steps": 2,
        "num_examples": 30,
        "log_period": 1,
        "eval_period": 0,
        "eval_examples": 8,
    }
    return trainer.train(TrainConfig(**options | changes))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    train(folder)
    return str(folder)


@pytest.fixture(scope="module")
def records():
    return prepare(
        *registry.resolve("entailment_logit_distillation"),
        "train",
        vocabulary="bytes",
        task_feature_lengths={"inputs": 96, "targets": 48},
        num_examples=30,
    )


def test_all_stored_tokens_are_the_teacher_beside_the_student(teacher, records):
    model, params = load_teacher(teacher, ByteVocabulary())
    everything = store_top_k(records, teacher, model.config.vocab_size, temperature=2.0, batch_size=4)
    assert everything.path != records.path
    assert store_top_k(records, teacher, model.config.vocab_size, temperature=2.0).path == everything.path
    student = jax.tree.map(lambda x: x * 0.7, params)
    objective = LogitDistillation(model, temperature=2.0)
    eval_step = make_eval_step(model, step_by_step_weights(), objective=objective)
    batches = [next(Loader(r.path, 8, seed=0, shuffle=False)) for r in (records, everything)]
    np.testing.assert_array_equal(*(b["decoder_target_tokens"] for b in batches))
    beside, stored = (float(eval_step(student, b, params)["loss"]) for b in batches)
    np.testing.assert_allclose(stored, beside, rtol=1e-4)


def test_a_teacher_of_more_ids_than_the_student(teacher, records, tmp_path):
    """Padded to 512 rows, the student to 384: only ids of the student are stored, and give the live loss."""
    train(tmp_path, vocab_size=512, num_examples=30, train_steps=1)
    model, params = load_teacher(str(tmp_path), ByteVocabulary())
    assert model.config.vocab_size == 512
    _, student = load_teacher(teacher, ByteVocabulary())
    objective = LogitDistillation(model)
    eval_step = make_eval_step(
        Transformer(dataclasses.replace(TINY, vocab_size=384)), step_by_step_weights(), objective=objective
    )
    live = float(eval_step(student, next(Loader(records.path, 8, seed=0, shuffle=False)), params)["loss"])
    for k, vocab_size in ((384, 384), (512, None)):
        stored = store_top_k(records, str(tmp_path), k, vocab_size=vocab_size, batch_size=4)
        batch = next(Loader(stored.path, 8, seed=0, shuffle=False))
        assert batch["decoder_teacher_ids"].max() < (vocab_size or 512)
        np.testing.assert_allclose(float(eval_step(student, batch)["loss"]), live, rtol=1e-4)
    with pytest.raises(UserError, match=r"\(TEACHER_TOP_K\): expected 1 to 384, got 385"):
        store_top_k(records, str(tmp_path), 385, vocab_size=384)
    method = {"mixture_or_task_name": "entailment_logit_distillation", "teacher_checkpoint_path": str(tmp_path)}
    with pytest.raises(UserError, match=r"\(TEACHER_TOP_K\): expected 1 to 384, got 385"):  # of a run
        train(tmp_path / "student", teacher_top_k=385, **method)


def test_training_on_stored_tokens_needs_no_teacher_in_memory(teacher, tmp_path, monkeypatch):
    options = {
        "mixture_or_task_name": "entailment_logit_distillation",
        "temperature": 2.0,
        "teacher_checkpoint_path": teacher,
        "eval_period": 2,
    }
    beside = train(tmp_path / "beside", **options)
    stored = train(tmp_path / "stored", teacher_top_k=384, **options)
    for name in ("loss", "divergence", "validation/divergence"):
        np.testing.assert_allclose(stored[name], beside[name], rtol=1e-3, err_msg=name)
    few = train(tmp_path / "few", teacher_top_k=2, **options | {"eval_period": 0})
    assert few["divergence"] < beside["divergence"]


def test_mistakes(teacher, records, tmp_path):
    with pytest.raises(UserError, match=r"\(TEACHER_TOP_K\): expected 1 to 384, got 385"):
        store_top_k(records, teacher, 385)
    soft = dataclasses.replace(records, manifest=records.manifest | {"soft": True})
    with pytest.raises(UserError, match="soft_labels has classes instead"):
        store_top_k(soft, teacher, 2)
    options = {"mixture_or_task_name": "entailment_logit_distillation"}
    with pytest.raises(UserError, match=r"give --teacher-checkpoint \(TEACHER_CHECKPOINT_PATH\)"):
        train(tmp_path / "a", **options)
    with pytest.raises(UserError, match="was trained with the vocabulary bytes"):
        train(tmp_path / "b", teacher_checkpoint_path=teacher, **options | {"vocabulary": "train:600"})
