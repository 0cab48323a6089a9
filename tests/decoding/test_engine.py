import jax
import numpy as np
import pytest

from distill_jax.config import Decoding
from distill_jax.data.vocabularies import EOS_ID, load_vocabulary
from distill_jax.decoding import engine as engine_module
from distill_jax.decoding.engine import Engine
from distill_jax.errors import UserError
from distill_jax.models.config import T5Config
from distill_jax.models.t5 import Transformer
from distill_jax.training import train_state

CONFIG = T5Config(
    vocab_size=384,
    emb_dim=8,
    num_heads=2,
    num_encoder_layers=1,
    num_decoder_layers=1,
    head_dim=4,
    mlp_dim=16,
)
MODEL = Transformer(CONFIG)
TEXTS = ["a longer text that fills another bucket", "b", "cc", "a middling one", "z"]


@pytest.fixture(scope="module")
def params():
    return train_state.init_params(MODEL, 0)


def engine(params, batch_size=4):
    return Engine(params, MODEL, load_vocabulary("bytes"), 64, batch_size)


DECODINGS = [
    Decoding(num_beams=2, n_best=2),
    Decoding(temperature=0.7, top_k=50, top_p=0.9, n_best=3),
]


@pytest.mark.parametrize("decoding", DECODINGS)
def test_results_keep_their_order_whatever_the_batches(params, decoding):
    runs = [engine(params, size).generate(TEXTS, 6, decoding) for size in (1, 4)]
    for hypotheses, others in zip(*runs, strict=True):
        assert len(hypotheses) == decoding.n_best
        for one, other in zip(hypotheses, others, strict=True):
            assert one.text == other.text
            assert one.score == pytest.approx(other.score, abs=1e-4)


def test_a_stream_and_not_the_place_decides_the_sample(params):
    decoding = DECODINGS[1]
    run = engine(params)
    together = run.generate(TEXTS, 6, decoding, streams=range(10, 15))
    [alone] = run.generate(TEXTS[3:4], 6, decoding, streams=[13])
    assert [one.tokens for one in alone] == [one.tokens for one in together[3]]
    [other] = run.generate(TEXTS[3:4], 6, decoding, streams=[14])
    assert [one.tokens for one in other] != [one.tokens for one in alone]


@pytest.mark.parametrize("decoding", [Decoding(), *DECODINGS])
def test_the_first_token_the_decoder_reads_counts(params, decoding):
    run = engine(params)
    said = run.generate(TEXTS, 6, decoding, start=1)
    tokens = [[hypothesis.tokens for hypothesis in some] for some in said]
    found = [[hypothesis.log_prob for hypothesis in some] for some in said]
    for start, same in ((1, True), (0, False)):
        scores = run.token_scores(TEXTS, tokens, start)
        sums = [[sum(token.log_prob for token in text) for text in some] for some in scores]
        assert np.allclose(sums, found, atol=1e-3) == same


@pytest.mark.parametrize("rule", ["transformers", "t5x"])
def test_the_log_probability_of_a_beam_is_that_of_its_tokens(params, rule):
    decoding = Decoding(num_beams=3, n_best=3, length_penalty=0.6, beam_rule=rule)
    for text, hypotheses in zip(TEXTS, engine(params).generate(TEXTS, 6, decoding), strict=True):
        for hypothesis in hypotheses:
            size = len(hypothesis.tokens)
            divisor = (size if rule == "transformers" else (5 + size) / 6) ** 0.6
            assert hypothesis.score == pytest.approx(hypothesis.log_prob / divisor)
        [scored] = engine(params).token_scores([text], [[list(hypotheses[0].tokens)]])
        assert hypotheses[0].log_prob == pytest.approx(sum(s.log_prob for s in scored[0]), abs=1e-3)


@jax.jit
def plain_pass(params, inputs, shifted):
    """Log-probabilities [length, vocab] of one target; what follows its end does not count."""
    logits = MODEL.apply({"params": params}, inputs[None], shifted[None], shifted[None], enable_dropout=False)
    return jax.nn.log_softmax(logits[0])


def brute_force(params, text, target):
    """Log-probability of each token of the target."""
    vocabulary = load_vocabulary("bytes")
    inputs, shifted = np.zeros(64, np.int32), np.zeros(32, np.int32)
    source, ids = ([*vocabulary.encode(t), EOS_ID] for t in (text, target))
    inputs[: len(source)], shifted[1 : len(ids)] = source, ids[:-1]
    log_probs = np.asarray(plain_pass(params, inputs, shifted))
    return [float(log_probs[place, token]) for place, token in enumerate(ids)]


CHOICES = [["yes", "no", "perhaps"], ["no", "a rather long answer"], ["x"], ["yes", "no"], ["", "b"]]


@pytest.mark.parametrize("packed", [8, 256])
def test_scores_equal_one_plain_pass_each(params, packed, monkeypatch):
    monkeypatch.setattr(engine_module, "PACKED", packed)
    found = engine(params).score(TEXTS, CHOICES)
    for text, choices, scores in zip(TEXTS, CHOICES, found, strict=True):
        for choice, score in zip(choices, scores, strict=True):
            expected = brute_force(params, text, choice)
            assert score.tokens == len(expected)
            assert score.log_prob == pytest.approx(sum(expected), abs=1e-3)


def test_what_all_targets_begin_with_is_not_counted(params):
    [[score]] = engine(params).score(["b"], [["it is so: yes"]], ["it is so: "])
    assert score.tokens == 4  # three letters and the end
    assert score.log_prob == pytest.approx(sum(brute_force(params, "b", "it is so: yes")[-4:]), abs=1e-3)


def test_the_encoder_runs_once_however_many_targets(params, monkeypatch):
    calls = []
    original = engine_module._encode
    monkeypatch.setattr(engine_module, "_encode", lambda *a: calls.append(1) or original(*a))
    many = [str(number) for number in range(300)]
    scores = engine(params, 1).score(["b"], [many])
    assert len(scores[0]) == 300 and len(calls) == 1
    assert scores[0][299].log_prob == pytest.approx(sum(brute_force(params, "b", "299")), abs=1e-3)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"num_beams": 0}, "NUM_BEAMS"),
        (
            {"num_beams": 2, "length_penalty": -0.1},
            "LENGTH_PENALTY.: .* at least 0 and up to 10, got -0.1",
        ),
        ({"num_beams": 2, "length_penalty": float("nan")}, "LENGTH_PENALTY"),
        ({"num_beams": 2, "length_penalty": 50.0}, "up to 10"),  # no float32 holds length ** 50
        ({"num_beams": 2, "beam_rule": "t5"}, "did you mean t5x"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": 1.0, "top_p": 0.0}, "TOP_P"),
        ({"temperature": 1.0, "num_beams": 2}, "exclude"),
        ({"top_k": 3}, "temperature above 0"),
        ({"n_best": 2}, "as many beams"),
        ({"seed": -1}, "seed"),
    ],
)
def test_settings_that_do_not_go_together(settings, message):
    with pytest.raises(UserError, match=message):
        Decoding(**settings)


def test_padding_of_a_batch_does_not_hold_it_up(params):
    # 3 texts in a batch of 4: the empty row has ended before the first step.
    inputs = np.zeros((4, 16), np.int32)
    inputs[:3, :2] = [[70, 1], [80, 1], [90, 1]]
    filled = inputs.copy()
    filled[3, :2] = [100, 1]
    settings = [np.uint32(0), np.arange(4, dtype=np.uint32), np.ones(4, np.float32)]
    settings += [np.zeros(4, np.int32), np.ones(4, np.float32)]
    tokens, scores = engine_module._sample(MODEL, params, inputs, *settings, max_decode_length=6, num_samples=1)
    assert (np.asarray(tokens)[3] == 0).all() and float(scores[3, 0]) == 0.0
    static = {"max_decode_length": 6, "num_beams": 2}
    tokens, scores = engine_module._beam(MODEL, params, inputs, **static)
    others, found = engine_module._beam(MODEL, params, filled, **static)
    np.testing.assert_array_equal(tokens[:3], others[:3])
    np.testing.assert_allclose(scores[:3], found[:3], atol=1e-4)
    assert (np.asarray(tokens)[3] == 0).all()
