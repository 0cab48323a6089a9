"""Small students that were trained until their answers differ by input."""

import dataclasses

import pytest

from distill_jax.config import EvalConfig, TrainConfig
from distill_jax.models.config import T5Config
from distill_jax.training import trainer

SIZES = {
    "emb_dim": 48,
    "num_heads": 2,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "head_dim": 24,
    "mlp_dim": 96,
    "dropout_rate": 0.0,
}
GEMMA = {"model_family": "t5gemma", "num_kv_heads": 1, "sliding_window": 16}
CAUSAL = {"model_family": "llama", "num_kv_heads": 1, "num_encoder_layers": 0, "logits_via_embedding": True}


def _config(folder, method, steps, shape, **changes):
    options = {
        "model_dir": str(folder),
        "mixture_or_task_name": f"entailment_{method}",
        "task_feature_lengths": {"inputs": 160, "targets": 48},
        "num_examples": 300,
        "vocabulary": "train:600",
        "vocab_size": None,
        "schedule": "constant",
        "learning_rate": 5e-3,
        "batch_size": 4,
        "train_steps": steps,
        "eval_period": 0,
        "checkpoint_period": 1000,
    }
    return TrainConfig(**{**options, **shape, **changes})


@pytest.fixture(scope="session")
def make_trained(tmp_path_factory, causal_vocabulary):
    """(kind, method, steps) -> the folder of a trained run on the task `entailment`."""
    t5 = dataclasses.asdict(T5Config(vocab_size=None, **SIZES, mlp_activations=("gelu", "linear")))
    words = tmp_path_factory.mktemp("words")
    causal_vocabulary.save(words)
    longer = {"vocabulary": str(words), "task_feature_lengths": {"inputs": 320, "targets": 96}}
    shapes = {
        "t5": t5,
        "tied t5": {**t5, "logits_via_embedding": True, "scan_layers": True},
        "byt5": {**t5, "vocabulary": "bytes", "task_feature_lengths": longer["task_feature_lengths"]},
        "umt5": {**SIZES, "model_family": "umt5"},
        "llama": {**SIZES, **CAUSAL, **longer},
        "qwen3": {**SIZES, **CAUSAL, **longer, "qk_norm": True},
    }
    made = {}

    def make(kind, method="step_by_step", steps=40):
        if (kind, method) not in made:
            folder = tmp_path_factory.mktemp("trained") / "run"
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("DISTILL_JAX_CACHE", str(tmp_path_factory.getbasetemp() / "export-cache"))
                trainer.train(_config(folder, method, steps, shapes[kind]))
            made[kind, method] = folder
        return made[kind, method]

    return make


@pytest.fixture
def evaluated(make_trained):
    """A trained run with an evaluation of its last step on 30 test rows."""
    from distill_jax.evaluation.run import evaluate_run

    folder = make_trained("t5")
    if not (folder / "eval").exists():
        evaluate_run(EvalConfig(model_dir=str(folder), eval_examples=30, batch_size=32))
    return folder
