"""Whole runs of a decoder-only student that starts from a Hugging Face folder."""

import json

import pytest

from distill_jax.checkpoints.other_formats.huggingface import write_huggingface
from distill_jax.checkpoints.other_formats.parameters import from_tree
from distill_jax.checkpoints.other_formats.tokenizer_files import write_tokenizer
from distill_jax.config import TrainConfig
from distill_jax.decoding.predictor import Predictor
from distill_jax.errors import UserError
from distill_jax.evaluation.evaluator import make_evaluator
from distill_jax.models.families import make_config, make_network
from distill_jax.training import train_state, trainer

SHAPE = {
    "model_family": "llama",
    "emb_dim": 16,
    "num_heads": 4,
    "num_kv_heads": 2,
    "num_encoder_layers": 0,
    "num_decoder_layers": 2,
    "head_dim": 8,
    "mlp_dim": 32,
    "dropout_rate": 0.0,
    "logits_via_embedding": True,
}


@pytest.fixture(scope="module")
def folder(causal_vocabulary, tmp_path_factory):
    """What is to be had of a pretrained student."""
    config = make_config(SHAPE | {"vocab_size": causal_vocabulary.vocab_size})
    folder = tmp_path_factory.mktemp("pretrained")
    params = train_state.init_params(make_network(config), 0)
    write_huggingface(folder, from_tree(params), config)
    write_tokenizer(folder, causal_vocabulary, config.vocab_size)
    return str(folder)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path / "cache"))


def config_of(run, folder, method, **changes):
    options = {
        **SHAPE,
        "vocab_size": json.loads(open(f"{folder}/config.json").read())["vocab_size"],
        "model_dir": str(run),
        "mixture_or_task_name": f"entailment_{method}",
        "method": method,
        "task_feature_lengths": {"inputs": 320, "targets": 96},
        "initial_checkpoint_path": folder,
        "schedule": "constant",
        "learning_rate": 1e-2,
        "batch_size": 4,
        "train_steps": 12,
        "num_examples": 24,
        "log_period": 1,
        "eval_period": 12,
        "eval_examples": 4,
        "checkpoint_period": 12,
    }
    return TrainConfig(**options | changes)


@pytest.mark.parametrize("method", ["step_by_step", "step_by_step_shared", "logit_distillation"])
def test_a_run_learns_and_predicts(method, folder, tmp_path):
    changes = {"teacher_checkpoint_path": folder} if method == "logit_distillation" else {}
    if method != "step_by_step":
        changes |= {"eval_period": 0}  # predicting is the same for all
    run = tmp_path / "run"
    trainer.train(config_of(run, folder, method, **changes), evaluator=make_evaluator)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert losses[-1] < 0.8 * losses[0]
    assert any(name.startswith("validation/") for line in lines for name in line) == (method == "step_by_step")
    assert json.loads((run / "run.json").read_text())["model"]["model_family"] == "llama"
    predictor = Predictor(str(run))
    [prediction] = predictor.predict(["a man is in the park"], label_by="rank", rationale=True)
    assert prediction.label in predictor.student.task.classes and prediction.rationale is not None
    assert sum(prediction.label_probs.values()) == pytest.approx(1.0)


def test_another_vocabulary_than_the_checkpoints_is_refused(folder, tmp_path):
    with pytest.raises(
        UserError, match=r"has a vocabulary of its own: leave --vocabulary \S+ out, or give --vocabulary"
    ):
        trainer.train(config_of(tmp_path / "run", folder, "standard", vocabulary="bytes", eval_period=0))


def test_a_t5_refuses_a_vocabulary_without_padding(folder, tmp_path):
    changes = {"model_family": "t5", "num_encoder_layers": 1, "num_kv_heads": None}
    with pytest.raises(UserError, match="model_family is llama, the model's gin file has t5"):
        trainer.train(config_of(tmp_path / "run", folder, "standard", **changes))
    changes |= {"vocabulary": folder, "initial_checkpoint_path": "none"}
    with pytest.raises(UserError, match=r"\(MODEL_FAMILY\) t5 takes id 0 for padding"):
        trainer.train(config_of(tmp_path / "run", folder, "standard", **changes))
