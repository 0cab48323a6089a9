"""Every family decodes what transformers generates, in slots that stay full, by samples and by beams."""

import jax
import numpy as np
import pytest
from transformers_families import KINDS, START, VOCAB, saved_peer, torch

from distill_jax.checkpoints.other_formats.parameters import to_tree
from distill_jax.decoding import continuous
from distill_jax.decoding.likelihood import encode, score_tokens
from distill_jax.decoding.search import beam_decode, sample_decode
from distill_jax.models.families import make_network

TOKENS = 50
each = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def students(tmp_path_factory):
    made = {}

    def of(kind):
        if kind not in made:
            peer, parameters, config = saved_peer(kind, tmp_path_factory.mktemp(kind))
            made[kind] = peer, make_network(config), to_tree(parameters)
        return made[kind]

    return of


def inputs(count=5):
    """Inputs of several lengths; one is longer than the window."""
    rng = np.random.default_rng(3)
    return [[*rng.integers(8, VOCAB, length).tolist(), 1] for length in (3, 17, 9, 28, 6)[:count]]


def their_greedy(peer, rows, start):
    found = []
    for row in rows:
        ids = peer.generate(
            input_ids=torch.tensor([row]),
            attention_mask=torch.ones(1, len(row), dtype=torch.long),
            decoder_input_ids=torch.tensor([[start]]),
            max_new_tokens=TOKENS,
            do_sample=False,
            num_beams=1,
            eos_token_id=1,
            pad_token_id=0,
        )[0, 1:].tolist()
        found.append(ids[: ids.index(1) + 1] if 1 in ids else ids)
    return found


def ours(kind, students, rows, batch_size):
    _, model, params = students(kind)
    options = {"batch_size": batch_size, "longest": 32, "max_length": TOKENS, "start_id": START[kind]}
    found = {}
    for item, tokens, score in continuous.decode(model, params, rows, **options):
        ids = tokens.tolist()
        found[item] = (ids[: ids.index(1) + 1] if 1 in ids else ids), score
    return [found[item] for item in range(len(rows))]


@each
def test_the_same_greedy_tokens_as_transformers(students, kind):
    rows = inputs()
    expected = their_greedy(students(kind)[0], rows, START[kind])
    found = ours(kind, students, rows, batch_size=2)
    assert max(map(len, expected)) > 20
    assert [tokens for tokens, _ in found] == expected


@each
def test_scores_samples_and_beams_agree_with_teacher_forcing(students, kind):
    _, model, params = students(kind)
    rows = inputs(2)
    padded = np.zeros((2, 32), np.int32)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    greedy = ours(kind, students, rows, batch_size=2)
    settings = np.zeros(2, np.float32), np.zeros(2, np.int32), np.ones(2, np.float32)
    noise = np.uint32(0), np.zeros(2, np.uint32)
    sample = jax.jit(sample_decode, static_argnums=0, static_argnames="max_decode_length")
    options = {"max_decode_length": TOKENS, "start_id": START[kind]}
    drawn, scores = sample(model, params, padded, *noise, *settings, **options)
    beam = jax.jit(beam_decode, static_argnums=0, static_argnames=("max_decode_length", "num_beams"))
    _, beams = beam(model, params, padded, num_beams=3, length_penalty=0.0, **options)
    targets = np.zeros((2, TOKENS), np.int32)
    for number, (tokens, _) in enumerate(greedy):
        targets[number, : len(tokens)] = tokens
        assert drawn[number, 0, : len(tokens)].tolist() == tokens
    segments = (targets > 0).astype(np.int32)
    encoded = encode(model, params, padded)
    forced = score_tokens(model, params, encoded, padded, targets, segments, START[kind])
    expected = np.where(segments > 0, forced, 0.0).sum(1)
    np.testing.assert_allclose([score for _, score in greedy], expected, rtol=1e-4)
    np.testing.assert_allclose(scores[:, 0], expected, rtol=1e-4)
    assert (beams[:, 0] >= expected - 1e-3).all()
