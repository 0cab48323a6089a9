"""transformers and T5X find our hypotheses with our scores, on 200 random students.

All students have one shape, so that a program is compiled once for a length. One length cuts most outputs.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from distill_jax.checkpoints.formats.huggingface import write_huggingface
from distill_jax.checkpoints.formats.parameters import expected_shapes, from_tree
from distill_jax.decoding import continuous, likelihood, search
from distill_jax.models.config import T5Config
from distill_jax.models.t5 import Transformer

STUDENTS, BEAMS, EOS = 200, 3, 1
LENGTHS = (3, 8)
CONFIG = T5Config(
    vocab_size=12,
    emb_dim=16,
    num_heads=2,
    num_encoder_layers=1,
    num_decoder_layers=1,
    head_dim=8,
    mlp_dim=24,
    mlp_activations=("gelu", "linear"),
)
MODEL = Transformer(CONFIG)
INPUTS = np.array([[5, 6, 7, 1], [8, 1, 0, 0]], np.int32)
ROWS = [[5, 6, 7, 1], [8, 1]]
TIE = 1e-3


@functools.cache
def student(number):
    rng = np.random.default_rng(number)
    shapes = expected_shapes(CONFIG)
    flat = {name: rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}
    return traverse_util.unflatten_dict(flat, sep="/")


beam = jax.jit(
    functools.partial(search.beam_decode, num_beams=BEAMS),
    static_argnums=0,
    static_argnames=("max_decode_length", "length_penalty"),
)


def plain(tokens):
    """Up to the end token."""
    tokens = np.asarray(tokens).tolist()
    return tuple(tokens[: tokens.index(EOS) + 1] if EOS in tokens else tokens)


def ours(number, length, penalty):
    """Of each row: hypothesis -> score, best first."""
    tokens, scores = jax.device_get(
        beam(MODEL, student(number), INPUTS, max_decode_length=length, length_penalty=penalty)
    )
    return [{plain(t): float(s) for t, s in zip(*row, strict=True)} for row in zip(tokens, scores, strict=True)]


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    """(number of a student) -> transformers' model of it."""
    torch = pytest.importorskip("torch", reason="for parity tests only")
    transformers = pytest.importorskip("transformers", reason="for parity tests only")
    from safetensors.torch import load_file

    folder = tmp_path_factory.mktemp("peer")
    write_huggingface(folder, from_tree(student(0)), CONFIG)
    model = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()

    def load(number):
        own = folder / str(number)
        write_huggingface(own, from_tree(student(number)), CONFIG)
        missing, unexpected = model.load_state_dict(load_file(own / "model.safetensors"), strict=False)
        assert not unexpected and all("embed_tokens" in name for name in missing)
        return model

    with torch.inference_mode():
        yield load


def generate(model, length, **settings):
    import torch

    inputs = torch.tensor(INPUTS, dtype=torch.long)
    return model.generate(
        inputs,
        attention_mask=(inputs > 0).long(),
        max_new_tokens=length,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        **settings,
    )


def test_transformers_decodes_greedily_what_we_do(peer):
    ended = 0
    for number in range(STUDENTS):
        found = continuous.decode(MODEL, student(number), ROWS, batch_size=2, longest=16, max_length=8)
        mine = {item: (plain(tokens), score) for item, tokens, score in found}
        model = peer(number)
        theirs = generate(model, 8)
        log_probs = model.compute_transition_scores(theirs.sequences, theirs.scores, normalize_logits=True)
        for row, tokens in enumerate(theirs.sequences.numpy()[:, 1:]):
            tokens = plain(tokens)
            assert mine[row][0] == tokens
            assert mine[row][1] == pytest.approx(float(log_probs[row, : len(tokens)].sum()), abs=TIE)
            ended += EOS in tokens
    assert STUDENTS / 4 < ended < 2 * STUDENTS  # or nothing would be said of ends and cuts


@pytest.fixture(scope="module")
def t5x_beams():
    """(number of a student, length, penalty) -> of each row: hypothesis -> score, as T5X finds them."""
    decoding = pytest.importorskip("t5x.decoding", reason="T5X is for parity tests only")

    @functools.partial(jax.jit, static_argnums=(1, 2))
    def search_beams(params, length, penalty):
        def logits(state):
            tokens, inputs = state.sequences, state.cache["inputs"]
            settings = {"enable_dropout": False}
            out = MODEL.apply({"params": params}, inputs, tokens, jnp.ones_like(tokens), **settings)
            return jnp.take(out, state.cur_index, axis=1), state.cache

        start = jnp.zeros((len(ROWS), length), jnp.int32)
        cache = {"inputs": jnp.asarray(INPUTS)}
        return decoding.beam_search(start, cache, logits, EOS, num_decodes=BEAMS, alpha=penalty)

    def run(number, length, penalty):
        found = jax.device_get(search_beams(student(number), length, penalty))
        rows = []
        for tokens, scores in zip(*found, strict=True):
            row = {plain(t): float(s) for t, s in zip(tokens, scores, strict=True) if s > -1e6}
            if not any(EOS in hypothesis for hypothesis in row):
                # None has ended: T5X gives the live ones, with their log-probability for a score.
                row = {hypothesis: s / ((5 + length) / 6) ** penalty for hypothesis, s in row.items()}
            rows.append(row)
        return rows

    return run


def transformers_beams(model, length):
    """Of each row: hypothesis -> log-probability, best first."""
    found = generate(model, length, num_beams=BEAMS, num_return_sequences=BEAMS, length_penalty=0.0)
    tokens = found.sequences.numpy()[:, 1:].reshape(len(ROWS), BEAMS, -1)
    scores = found.sequences_scores.numpy().reshape(len(ROWS), BEAMS)
    return [{plain(t): float(s) for t, s in zip(*row, strict=True)} for row in zip(tokens, scores, strict=True)]


def assert_best(mine, theirs):
    """Ours are the best of theirs: what we leave out is no better than what we have."""
    for hypothesis, score in theirs.items():
        assert mine.get(hypothesis, score) == pytest.approx(score, abs=TIE)
        assert hypothesis in mine or score <= min(mine.values()) + TIE


@pytest.mark.parametrize("length", LENGTHS)
def test_transformers_beams_are_ours(peer, length):
    same = cut = 0
    for number in range(STUDENTS):
        for mine, theirs in zip(
            ours(number, length, 0.0), transformers_beams(peer(number), length), strict=True
        ):
            assert_best(mine, theirs)
            for hypothesis in mine.keys() - theirs.keys():
                # transformers drops ends that are not among the best `BEAMS` continuations of their step.
                assert hypothesis[-1] == EOS or mine[hypothesis] <= min(theirs.values()) + TIE
            same += mine.keys() == theirs.keys()
            cut += EOS not in next(iter(mine))
    assert same > STUDENTS / 2 and cut > STUDENTS / 10


@pytest.mark.parametrize("length", LENGTHS)
def test_t5x_beams_are_ours(t5x_beams, length):
    left_out = 0
    for number in range(STUDENTS):
        for mine, theirs in zip(ours(number, length, 0.6), t5x_beams(number, length, 0.6), strict=True):
            assert_best(mine, theirs)
            for hypothesis in mine.keys() - theirs.keys():
                # T5X leaves out what the limit cuts where others have ended, however unlikely these are.
                left_out += EOS not in hypothesis
                assert EOS not in hypothesis or mine[hypothesis] <= min(theirs.values()) + TIE
    assert left_out > STUDENTS / 10


@pytest.mark.parametrize("length", LENGTHS)
def test_our_beams_are_the_best_of_both_peers(peer, t5x_beams, length):
    for number in range(STUDENTS):
        rows = (ours(number, length, 0.0), transformers_beams(peer(number), length))
        for mine, one, other in zip(*rows, t5x_beams(number, length, 0.0), strict=True):
            best = sorted((one | other).values(), reverse=True)[:BEAMS]
            np.testing.assert_allclose(list(mine.values()), best, atol=TIE)


def test_a_beams_score_is_that_of_teacher_forcing():
    encode = jax.jit(likelihood.encode, static_argnums=0)
    score = jax.jit(likelihood.score_tokens, static_argnums=0)
    for number in range(0, STUDENTS, 10):
        params = student(number)
        for row, mine in enumerate(ours(number, LENGTHS[1], 0.0)):
            inputs = np.repeat(INPUTS[row : row + 1], BEAMS, axis=0)
            targets = np.zeros((BEAMS, LENGTHS[1]), np.int32)
            for line, hypothesis in zip(targets, mine, strict=True):
                line[: len(hypothesis)] = hypothesis
            # Token 0 is one that a random student writes too: what follows a hypothesis has no segment.
            lengths = np.array([len(hypothesis) for hypothesis in mine])
            segments = (np.arange(LENGTHS[1]) < lengths[:, None]).astype(np.int32)
            found = score(MODEL, params, encode(MODEL, params, inputs), inputs, targets, segments)
            sums = (np.asarray(found) * segments).sum(axis=1)
            np.testing.assert_allclose(sums, list(mine.values()), atol=TIE)


def test_what_the_limit_cuts_is_ranked_with_what_has_ended(monkeypatch):
    # Each next token is 7 with probability 0.9, and the end with 0.05.
    log_probs = jnp.log(jnp.full(16, 0.05 / 14).at[7].set(0.9).at[EOS].set(0.05))
    monkeypatch.setattr(search, "_start", lambda model, params, inputs, length: {"cache": {}})
    monkeypatch.setattr(search, "_repeat", lambda caches, times: caches)
    monkeypatch.setattr(
        search,
        "_step",
        lambda model, params, caches, inputs, last, length: (jnp.tile(log_probs, (len(last), 1)), caches),
    )
    for penalty in (0.0, 0.6):
        tokens, scores = search.beam_decode(
            None,
            None,
            jnp.ones((1, 3), jnp.int32),
            max_decode_length=6,
            num_beams=2,
            length_penalty=penalty,
        )
        assert tokens[0, 0].tolist() == [7] * 6
        assert float(scores[0, 0]) == pytest.approx(6 * np.log(0.9) / (11 / 6) ** penalty, abs=1e-4)
