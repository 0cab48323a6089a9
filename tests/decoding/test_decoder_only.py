"""One engine for decoder-only students too: what caches give is what a plain pass over the whole text gives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_jax.config import Decoding
from distill_jax.decoding.engine import Engine
from distill_jax.models.llama import DecoderOnly
from distill_jax.models.llama_config import LlamaConfig
from distill_jax.training import train_state

TEXTS = [
    "a man is sleeping in the park near their house",
    "b",
    "two children",
    "",
    "park park park",
    "the",
    "x y z",
]
CHOICES = [
    ["yes", "no", "perhaps"],
    ["no", "a rather long answer"],
    ["x"],
    ["", "b"],
    ["yes", "no"],
    ["a"],
    ["c", "d"],
]
ROOM = 96


@functools.cache
def student(scan_layers):
    shape = {
        "emb_dim": 16,
        "num_heads": 4,
        "num_kv_heads": 2,
        "num_decoder_layers": 2,
        "head_dim": 8,
        "mlp_dim": 32,
    }
    model = DecoderOnly(LlamaConfig(vocab_size=320, qk_norm=True, scan_layers=scan_layers, **shape))
    rng = np.random.default_rng(3)
    params = train_state.init_params(model, 0)
    return model, jax.tree.map(lambda x: x + rng.normal(0, 0.3, x.shape).astype(np.float32), params)


@pytest.fixture(params=[False, True], ids=["unrolled", "scanned"])
def engine(request, causal_vocabulary):
    model, params = student(request.param)
    return Engine(params, model, causal_vocabulary, 40, 4)


@functools.partial(jax.jit, static_argnums=0)
def plain_pass(model, params, prefix, targets):
    """Log-probabilities [room, vocab] of what follows each token of a text, which is nothing but targets."""
    logits = model.apply({"params": params}, prefix, targets, targets, enable_dropout=False)
    return jax.nn.log_softmax(logits[0])


def log_probs_after(engine, text, written, start=0):
    """Log-probabilities of every next token, after 0, 1, … of the written ones."""
    inputs = engine.vocabulary.frame(engine.vocabulary.encode(text), engine.inputs_length)
    whole = [*inputs, engine.vocabulary.starts[start], *written]
    tokens = np.zeros((1, ROOM), np.int32)
    tokens[0, : len(whole)] = whole
    padding = jnp.full((1, 1), engine.model.config.pad_id, jnp.int32)
    return np.asarray(plain_pass(engine.model, engine.params, padding, tokens))[len(inputs) : len(whole)]


@pytest.mark.parametrize("start", [0, 1])
def test_greedy_texts_are_the_likeliest_tokens_of_plain_passes(engine, start):
    lengths = set()
    for text, [hypothesis] in zip(TEXTS, engine.generate(TEXTS, 50, start=start), strict=True):
        log_probs = log_probs_after(engine, text, hypothesis.tokens[:-1], start)
        assert log_probs.argmax(axis=-1).tolist() == list(hypothesis.tokens)
        assert hypothesis.log_prob == pytest.approx(log_probs.max(axis=-1).sum(), abs=1e-3)
        lengths.add(len(hypothesis.tokens))
    assert max(lengths) > 16  # longer than the first window of the cache


@pytest.mark.parametrize("decoding", [Decoding(num_beams=3, n_best=3), Decoding(temperature=0.8, n_best=2)])
def test_beams_and_samples_have_the_log_probability_of_their_tokens(engine, decoding):
    for text, hypotheses in zip(TEXTS, engine.generate(TEXTS, 8, decoding), strict=True):
        for hypothesis in hypotheses:
            log_probs = log_probs_after(engine, text, hypothesis.tokens[:-1])
            expected = log_probs[np.arange(len(hypothesis.tokens)), list(hypothesis.tokens)].sum()
            assert hypothesis.log_prob == pytest.approx(expected, abs=1e-3)


def test_ranking_reads_the_prefix_once_for_all_labels(engine):
    for text, choices, scores in zip(TEXTS, CHOICES, engine.score(TEXTS, CHOICES), strict=True):
        for choice, score in zip(choices, scores, strict=True):
            ids = [*engine.vocabulary.encode(f" {choice}"), engine.vocabulary.eos_id]
            log_probs = log_probs_after(engine, text, ids[:-1])
            assert score.log_prob == pytest.approx(log_probs[np.arange(len(ids)), ids].sum(), abs=1e-3)
            assert score.tokens == len(ids)


def test_a_constrained_label_is_the_likeliest_of_the_allowed_tokens(engine):
    for text, choices, (number, _) in zip(TEXTS, CHOICES, engine.choose(TEXTS, CHOICES), strict=True):
        ids = [[*engine.vocabulary.encode(f" {choice}"), engine.vocabulary.eos_id] for choice in choices]
        place = 0
        left = set(range(len(ids)))
        while len(left) > 1:  # step by step, the token that the plain network finds likeliest
            log_probs = log_probs_after(engine, text, ids[min(left)][:place])[place]
            best = max({ids[n][place] for n in left}, key=lambda token: log_probs[token])
            left = {n for n in left if ids[n][place] == best}
            place += 1
        assert left == {number}


def test_results_do_not_depend_on_the_batches(engine, causal_vocabulary):
    alone = Engine(engine.params, engine.model, causal_vocabulary, 40, 1)
    one, other = alone.generate(TEXTS, 20), engine.generate(TEXTS, 20)
    assert [some[0].tokens for some in one] == [some[0].tokens for some in other]
