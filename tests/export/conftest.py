"""Small students: trained until their answers differ by input, or random where any text will do."""

import dataclasses
import io

import numpy as np
import pytest
import sentencepiece

from distill_jax.checkpoints import run_dir
from distill_jax.checkpoints.layout import CHECKPOINTS
from distill_jax.checkpoints.orbax_trees import write_tree
from distill_jax.checkpoints.other_formats.parameters import Parameter, expected_shapes
from distill_jax.config import EvalConfig, TrainConfig
from distill_jax.data.vocabularies import SentencePieceVocabulary, load_vocabulary
from distill_jax.evaluation.run import evaluate_run
from distill_jax.models.config import T5Config
from distill_jax.models.families import describe, make_config
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
GATED = {**SIZES, "mlp_activations": ("gelu", "linear")}
CAUSAL = {**SIZES, "model_family": "llama", "num_kv_heads": 1, "num_encoder_layers": 0}
KINDS = {
    "t5": GATED,
    "tied t5": {**GATED, "logits_via_embedding": True},
    "umt5": {**SIZES, "model_family": "umt5"},
    "byt5": GATED,
    "llama": {**CAUSAL, "logits_via_embedding": True},
    "qwen3": {**CAUSAL, "qk_norm": True},
    "t5gemma": {**SIZES, "model_family": "t5gemma"},
    "t5gemma2": {**SIZES, "model_family": "t5gemma2", "sliding_window": 16},
}


@pytest.fixture(scope="session")
def make_trained(tmp_path_factory):
    """(steps) -> the folder of a T5 that was trained so long step by step on the task `entailment`."""
    made = {}

    def make(steps=40):
        if steps not in made:
            folder = tmp_path_factory.mktemp("trained") / "run"
            shape = dataclasses.asdict(T5Config(vocab_size=None, **KINDS["t5"]))
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("DISTILL_JAX_CACHE", str(tmp_path_factory.getbasetemp() / "export-cache"))
                options = {
                    "model_dir": str(folder),
                    "mixture_or_task_name": "entailment_step_by_step",
                    "task_feature_lengths": {"inputs": 160, "targets": 48},
                    "num_examples": 300,
                    "vocabulary": "train:600",
                    "schedule": "constant",
                    "learning_rate": 5e-3,
                    "batch_size": 4,
                    "train_steps": steps,
                    "eval_period": 0,
                }
                trainer.train(TrainConfig(**options, **shape))
            made[steps] = folder
        return made[steps]

    return make


def gemma_vocabulary():
    """A small SentencePiece model with Gemma's settings and special ids."""
    model = io.BytesIO()
    texts = ["the quick brown fox jumps over the lazy dog", "Ada has a trout. Ben has a saw."]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts * 30),
        model_writer=model,
        vocab_size=400,
        **{"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "eos_piece": "<eos>", "bos_piece": "<bos>"},
        **{"model_type": "bpe", "byte_fallback": True, "add_dummy_prefix": False},
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return SentencePieceVocabulary(model.getvalue())


@pytest.fixture(scope="session")
def make_random(tmp_path_factory, causal_vocabulary, make_trained):
    """(kind, method) -> the folder of a run of random parameters that are large: texts differ by input."""

    made = {}

    def make(kind, method):
        if (kind, method) not in made:
            made[kind, method] = write(kind, method)
        return made[kind, method]

    def write(kind, method):
        folder = tmp_path_factory.mktemp("random")
        words = causal_vocabulary if "llama" in str(KINDS[kind]) else load_vocabulary("bytes")
        words = load_vocabulary(make_trained()) if kind == "umt5" else words
        words = gemma_vocabulary() if "gemma" in kind else words
        config = make_config({"vocab_size": words.vocab_size, **KINDS[kind]})
        rng = np.random.default_rng(0)
        shapes = expected_shapes(config)
        arrays = {name: rng.normal(0, 0.8, shape).astype(np.float32) for name, shape in shapes.items()}
        if kind == "umt5":  # nobody writes special tokens and single bytes
            for ids in (slice(0, 259), slice(-words.extra_ids, None)):
                arrays["decoder/logits_dense/kernel"][:, ids] = 0.0
        if "gemma" in kind:
            arrays["token_embedder/embedding"] *= 0.05  # so that the layers decide
            arrays["token_embedder/embedding"][:260] = 0.0
        parameters = {n: Parameter(x.shape, lambda index, x=x: x[index]) for n, x in arrays.items()}
        lengths = {"inputs": 200, "targets": 12}
        run = run_dir.Run(
            f"entailment_{method}", "reference", None, lengths, "", "", describe(config), 4, 0, {}
        )
        run_dir.claim(str(folder), run)
        words.save(folder)
        write_tree(folder / CHECKPOINTS, 3, "params", parameters, {"step": np.asarray(3, np.int32)})
        return folder

    return make


@pytest.fixture(scope="session")
def evaluated(make_trained):
    """A trained run with an evaluation of its last step on 30 test rows."""
    folder = make_trained()
    evaluate_run(EvalConfig(model_dir=str(folder), eval_examples=30, batch_size=32))
    return folder
