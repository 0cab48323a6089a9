"""transformers and T5X find our hypotheses with our scores, on 200 random students.

All students have one shape, so that a program is compiled once for a length. One length cuts most outputs.
"""

import functools
import types

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


def student(number):
    rng = np.random.default_rng(number)
    shapes = expected_shapes(CONFIG)
    flat = {name: rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}
    return traverse_util.unflatten_dict(flat, sep="/")


def plain(tokens):
    """Up to the end token."""
    tokens = np.asarray(tokens).tolist()
    return tuple(tokens[: tokens.index(EOS) + 1] if EOS in tokens else tokens)


def hypotheses(tokens, scores):
    """Of each row: hypothesis -> score, in the order of the beams."""
    return [{plain(t): float(s) for t, s in zip(*row, strict=True)} for row in zip(tokens, scores, strict=True)]


@pytest.fixture(scope="module")
def students():
    return [student(number) for number in range(STUDENTS)]


@pytest.fixture(scope="module")
def run_all(students):
    """Runs a beam search of (params) for all students in one program; a list of `hypotheses`."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *students)

    def run(beams):
        tokens, scores = jax.device_get(jax.jit(jax.vmap(beams))(stacked))
        return [hypotheses(*one) for one in zip(tokens, scores, strict=True)]

    return run


@pytest.fixture(scope="module")
def ours(run_all):
    """(length, penalty) -> our beams of all students."""

    @functools.cache
    def run(length, penalty):
        settings = {"max_decode_length": length, "num_beams": BEAMS, "length_penalty": penalty}
        return run_all(lambda params: search.beam_decode(MODEL, params, INPUTS, **settings))

    return run


@pytest.fixture(scope="module")
def transformers(students, tmp_path_factory):
    """Of all students: `hypotheses` with log-probabilities by (length, beams); greedy is of one beam."""
    torch = pytest.importorskip("torch", reason="for parity tests only")
    library = pytest.importorskip("transformers", reason="for parity tests only")
    from safetensors.torch import load_file

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    inputs = torch.tensor(INPUTS, dtype=torch.long)
    settings = {"attention_mask": (inputs > 0).long(), "return_dict_in_generate": True, "output_scores": True}
    found = {key: [] for key in ((LENGTHS[1], 1), *((length, BEAMS) for length in LENGTHS))}
    model = None
    for params in students:
        folder = tmp_path_factory.mktemp("peer")
        write_huggingface(folder, from_tree(params), CONFIG)
        if model is None:
            model = library.T5ForConditionalGeneration.from_pretrained(folder).eval()
        missing, unexpected = model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
        assert not unexpected and all("embed_tokens" in name for name in missing)
        for (length, beams), results in found.items():
            how = {"num_beams": beams, "num_return_sequences": beams, "max_new_tokens": length}
            how |= {"length_penalty": 0.0} if beams > 1 else {}
            with torch.inference_mode():
                out = model.generate(inputs, do_sample=False, **how, **settings)
            if beams > 1:
                scores = out.sequences_scores
            else:
                steps = model.compute_transition_scores(out.sequences, out.scores, normalize_logits=True)
                ended = (out.sequences[:, 1:] == EOS).cumsum(1) - (out.sequences[:, 1:] == EOS).int() > 0
                scores = steps.masked_fill(ended, 0.0).sum(1)
            tokens = out.sequences.numpy()[:, 1:].reshape(len(ROWS), beams, -1)
            results.append(hypotheses(tokens, scores.numpy().reshape(len(ROWS), beams)))
    torch.set_num_threads(threads)
    return found


@pytest.fixture(scope="module")
def t5x(run_all):
    """(length, penalty) -> T5X's beams of all students."""
    decoding = pytest.importorskip("t5x.decoding", reason="T5X is for parity tests only")

    @functools.cache
    def run(length, penalty):
        def beams(params):
            def logits(state):
                tokens, inputs = state.sequences, state.cache["inputs"]
                settings = {"enable_dropout": False}
                out = MODEL.apply({"params": params}, inputs, tokens, jnp.ones_like(tokens), **settings)
                return jnp.take(out, state.cur_index, axis=1), state.cache

            start = jnp.zeros((len(ROWS), length), jnp.int32)
            cache = {"inputs": jnp.asarray(INPUTS)}
            return decoding.beam_search(start, cache, logits, EOS, num_decodes=BEAMS, alpha=penalty)

        found = run_all(beams)
        for row in (row for rows in found for row in rows):
            for hypothesis, score in list(row.items()):
                if score < -1e6:
                    del row[hypothesis]  # no hypothesis
            if not any(EOS in hypothesis for hypothesis in row):
                # None has ended: T5X gives the live ones, with their log-probability for a score.
                for hypothesis in row:
                    row[hypothesis] /= ((5 + length) / 6) ** penalty
        return found

    return run


def rows_of(*results):
    """The same row of each result, for all students and rows."""
    for of_student in zip(*results, strict=True):
        yield from zip(*of_student, strict=True)


def test_transformers_decodes_greedily_what_we_do(students, transformers):
    ended = 0
    for params, theirs in zip(students, transformers[LENGTHS[1], 1], strict=True):
        found = continuous.decode(MODEL, params, ROWS, batch_size=2, longest=16, max_length=LENGTHS[1])
        for item, tokens, score in found:
            [(expected, log_prob)] = theirs[item].items()
            assert plain(tokens) == expected
            assert score == pytest.approx(log_prob, abs=TIE)
            ended += EOS in expected
    assert STUDENTS / 4 < ended < 2 * STUDENTS  # or nothing would be said of ends and cuts


def assert_best(mine, theirs):
    """Ours are the best of theirs: what we leave out is no better than what we have."""
    for hypothesis, score in theirs.items():
        assert mine.get(hypothesis, score) == pytest.approx(score, abs=TIE)
        assert hypothesis in mine or score <= min(mine.values()) + TIE


@pytest.mark.parametrize("length", LENGTHS)
def test_transformers_beams_are_ours(ours, transformers, length):
    same = cut = 0
    for mine, theirs in rows_of(ours(length, 0.0), transformers[length, BEAMS]):
        assert_best(mine, theirs)
        for hypothesis in mine.keys() - theirs.keys():
            # transformers drops ends that are not among the best `BEAMS` continuations of their step.
            assert hypothesis[-1] == EOS or mine[hypothesis] <= min(theirs.values()) + TIE
        same += mine.keys() == theirs.keys()
        cut += EOS not in next(iter(mine))
    assert same > STUDENTS / 4 and cut > STUDENTS / 10


@pytest.mark.parametrize("length", LENGTHS)
def test_t5x_beams_are_ours(ours, t5x, length):
    left_out = 0
    for mine, theirs in rows_of(ours(length, 0.6), t5x(length, 0.6)):
        assert_best(mine, theirs)
        for hypothesis in mine.keys() - theirs.keys():
            # T5X leaves out what the limit cuts where others have ended, however unlikely these are.
            left_out += EOS not in hypothesis
            assert EOS not in hypothesis or mine[hypothesis] <= min(theirs.values()) + TIE
    assert left_out > STUDENTS / 10


@pytest.mark.parametrize("length", LENGTHS)
def test_our_beams_are_the_best_of_both_peers(ours, transformers, t5x, length):
    for mine, one, other in rows_of(ours(length, 0.0), transformers[length, BEAMS], t5x(length, 0.0)):
        best = sorted((one | other).values(), reverse=True)[:BEAMS]
        np.testing.assert_allclose(list(mine.values()), best, atol=TIE)


def test_a_beams_score_is_that_of_teacher_forcing(students, ours):
    encode = jax.jit(likelihood.encode, static_argnums=0)
    score = jax.jit(likelihood.score_tokens, static_argnums=0)
    length = LENGTHS[1]
    for params, rows in zip(students, ours(length, 0.0), strict=True):
        for inputs, mine in zip(INPUTS, rows, strict=True):
            inputs = np.repeat(inputs[None], BEAMS, axis=0)
            targets = np.zeros((BEAMS, length), np.int32)
            for line, hypothesis in zip(targets, mine, strict=True):
                line[: len(hypothesis)] = hypothesis
            # Token 0 is one that a random student writes too: what follows a hypothesis has no segment.
            lengths = np.array([len(hypothesis) for hypothesis in mine])
            segments = (np.arange(length) < lengths[:, None]).astype(np.int32)
            found = score(MODEL, params, encode(MODEL, params, inputs), inputs, targets, segments)
            sums = (np.asarray(found) * segments).sum(axis=1)
            np.testing.assert_allclose(sums, list(mine.values()), atol=TIE)


def test_what_the_limit_cuts_is_ranked_with_what_has_ended(monkeypatch):
    # Each next token is 7 with probability 0.9, and the end with 0.05.
    log_probs = jnp.log(jnp.full(16, 0.05 / 14).at[7].set(0.9).at[EOS].set(0.05))
    monkeypatch.setattr(search, "_start", lambda model, params, inputs, length: {"cache": {}})
    monkeypatch.setattr(search, "_repeat", lambda caches, batch, times: caches)
    monkeypatch.setattr(
        search,
        "_step",
        lambda model, params, caches, inputs, last, length: (jnp.tile(log_probs, (len(last), 1)), caches),
    )
    for penalty in (0.0, 0.6):
        tokens, scores = search.beam_decode(
            types.SimpleNamespace(config=types.SimpleNamespace(pad_id=0)),
            None,
            jnp.ones((1, 3), jnp.int32),
            max_decode_length=6,
            num_beams=2,
            length_penalty=penalty,
        )
        assert tokens[0, 0].tolist() == [7] * 6
        assert float(scores[0, 0]) == pytest.approx(6 * np.log(0.9) / (11 / 6) ** penalty, abs=1e-4)
