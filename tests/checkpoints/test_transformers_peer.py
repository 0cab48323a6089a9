"""transformers computes what we compute, on what it and we have written; skipped where it is not installed."""

import dataclasses
import itertools
import os
import pathlib

import numpy as np
import pytest

from distill_jax.checkpoints.convert import convert
from distill_jax.checkpoints.other_formats.huggingface import read_huggingface, write_huggingface
from distill_jax.checkpoints.other_formats.parameters import from_tree, to_tree
from distill_jax.checkpoints.reading import open_checkpoint
from distill_jax.config import ConvertConfig, TrainConfig
from distill_jax.data.vocabularies import EOS_ID, load_vocabulary
from distill_jax.decoding.engine import Engine
from distill_jax.models.config import T5Config
from distill_jax.models.t5 import Transformer
from distill_jax.tasks import registry
from distill_jax.training import trainer

torch = pytest.importorskip("torch", reason="for parity tests only")
transformers = pytest.importorskip("transformers", reason="for parity tests only")

SIZES = {
    "vocab_size": 48,
    "d_model": 16,
    "d_kv": 12,
    "d_ff": 24,
    "num_heads": 2,
    "num_layers": 2,
    "num_decoder_layers": 1,
    "dropout_rate": 0.0,
}
THEIRS = {
    "T5 1.0": {},
    "T5 1.1, FLAN, ByT5": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "mT5": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "UL2": {"feed_forward_proj": "gated-silu", "tie_word_embeddings": False},
    "gated and tied": {"feed_forward_proj": "gated-gelu"},
}


def logits(model, inputs, targets):
    with torch.no_grad():
        return model.eval()(
            input_ids=torch.tensor(inputs),
            attention_mask=torch.tensor((inputs > 0).astype(np.int64)),
            decoder_input_ids=torch.tensor(targets),
        ).logits.numpy()


def assert_same_logits(params, config, peer):
    rng = np.random.default_rng(0)
    inputs, targets = rng.integers(2, 48, (3, 140)), rng.integers(2, 48, (3, 150))
    inputs[1, 90:] = 0  # padding
    ours = Transformer(config).apply({"params": params}, inputs, targets, targets, enable_dropout=False)
    np.testing.assert_allclose(ours, logits(peer, inputs, targets), atol=1e-4)


@pytest.mark.parametrize("kind", list(THEIRS))
def test_what_transformers_saves_computes_the_same(tmp_path, kind):
    torch.manual_seed(0)
    if kind == "mT5":
        model = transformers.MT5ForConditionalGeneration(transformers.MT5Config(**SIZES, **THEIRS[kind]))
    else:
        model = transformers.T5ForConditionalGeneration(transformers.T5Config(**SIZES, **THEIRS[kind]))
    if "tie_word_embeddings" in THEIRS[kind]:
        model.lm_head.weight = torch.nn.Parameter(torch.randn(48, 16))
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    parameters, config = read_huggingface(tmp_path)
    assert config.logits_via_embedding == ("tie_word_embeddings" not in THEIRS[kind])
    assert_same_logits(to_tree(parameters), config, model)


@pytest.mark.parametrize("kind", ["1.0", "1.1", "gated and tied", "UL2"])
def test_what_we_write_computes_the_same(make_student, tmp_path, kind):
    config, params = make_student(kind)
    write_huggingface(tmp_path, from_tree(params), config, shard_bytes=9000)
    peer = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path)
    assert_same_logits(params, config, peer)


SHARED = pathlib.Path(os.environ.get("DISTILL_JAX_SHARED") or pathlib.Path(__file__).parents[3] / "shared")
ROWS = 200
LENGTH = 40


@pytest.fixture
def svamp_student(tmp_path, monkeypatch):
    """A run's folder: a small student after some steps on SVAMP, enough for its answers to differ by input."""
    if not (SHARED / "datasets" / "svamp").is_dir():
        pytest.skip("no data sets beside the repository")
    monkeypatch.setenv("DISTILL_JAX_DATA_DIR", str(SHARED / "datasets"))
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path / "cache"))
    sizes = {"emb_dim": 64, "num_heads": 4, "num_encoder_layers": 2, "num_decoder_layers": 2, "head_dim": 16}
    config = T5Config(
        vocab_size=None,
        **sizes,
        mlp_dim=128,
        mlp_activations=("gelu", "linear"),
        dropout_rate=0.0,
        scan_layers=True,
    )
    config = TrainConfig(
        **dataclasses.asdict(config),
        model_dir=str(tmp_path / "run"),
        mixture_or_task_name="svamp_step_by_step",
        task_feature_lengths={"inputs": 192, "targets": 96},
        num_examples=200,
        vocabulary="train:1000",
        schedule="constant",
        learning_rate=3e-3,
        batch_size=4,
        train_steps=60,
        eval_period=0,
    )
    trainer.train(config)
    return tmp_path / "run"


@pytest.mark.slow
def test_transformers_generates_our_tokens_on_svamp(svamp_student, tmp_path):
    convert(ConvertConfig(source=str(svamp_student), destination=str(tmp_path / "hf"), to="huggingface"))
    peer = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "hf").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    checkpoint = open_checkpoint(str(svamp_student))
    model, params = Transformer(checkpoint.model_config()), to_tree(checkpoint.parameters)
    vocabulary = load_vocabulary(svamp_student)
    task, views = registry.resolve("svamp_step_by_step")
    examples = list(itertools.islice(task.source.examples("test"), ROWS))
    assert len(examples) == ROWS
    engine = Engine(params, model, vocabulary, 512, 64)
    for view in views:
        texts = [view.inputs(example) for example in examples]
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        ids = [[*vocabulary.encode(text), EOS_ID] for text in texts]
        assert [[i for i in row if i] for row in batch.input_ids.tolist()] == ids
        with torch.no_grad():
            theirs = peer.generate(**batch, max_new_tokens=LENGTH, do_sample=False, num_beams=1).numpy()
        ours = np.zeros((ROWS, LENGTH), np.int32)
        for row, (hypothesis,) in zip(ours, engine.generate(texts, LENGTH), strict=True):
            row[: len(hypothesis.tokens)] = hypothesis.tokens
        theirs = np.pad(theirs[:, 1:], ((0, 0), (0, LENGTH + 1 - theirs.shape[1])))  # the first is the start
        assert len({tuple(row) for row in ours.tolist()}) > 10  # a student that says one thing proves little
        np.testing.assert_array_equal(ours, theirs)
        decoded = tokenizer.batch_decode(theirs, skip_special_tokens=True)
        assert decoded == [vocabulary.decode(row) for row in ours.tolist()]
