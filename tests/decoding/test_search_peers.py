"""transformers and T5X find our hypotheses with our scores, on 200 random students.

Both peers, and a plain search that stands in for them where they are not installed, are given log-probabilities
that are computed without a cache; ours decodes with its caches. All students have one shape, so that a program
is compiled once for a length and a number of beams. One length cuts most outputs.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from plain_beams import EOS, plain_search

from distill_jax.checkpoints.other_formats.huggingface import write_huggingface
from distill_jax.checkpoints.other_formats.parameters import expected_shapes, from_tree
from distill_jax.decoding import continuous, likelihood, search
from distill_jax.models.config import T5Config
from distill_jax.models.t5 import Transformer

STUDENTS = 200
BEAMS_AND_LENGTHS = [(1, 8), (2, 3), (3, 3), (4, 8)]
LONGEST, MOST = 8, 4
PENALTIES = (0.0, 0.6, 1.0)
RULES = ("transformers", "t5x")
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
PLACES = list(itertools.product(range(STUDENTS), range(len(ROWS))))
TIE = 1e-5  # of log-probabilities: a search that decides between closer ones may do either


@pytest.fixture(scope="module")
def students():
    """Parameters of each student."""
    shapes = expected_shapes(CONFIG)
    made = []
    for number in range(STUDENTS):
        rng = np.random.default_rng(number)
        flat = {name: rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}
        made.append(traverse_util.unflatten_dict(flat, sep="/"))
    return made


@pytest.fixture(scope="module")
def stacked(students):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *students)


@pytest.fixture(scope="module")
def next_log_probs(stacked):
    """Of tokens [students, rows, MOST, LONGEST] and a length: log-probabilities [..., vocab] of the next."""

    @jax.jit
    def run(tokens, size):
        def of_student(params, tokens):
            inputs = jnp.repeat(INPUTS, MOST, axis=0)
            tokens = tokens.reshape(len(inputs), LONGEST)
            shifted = jnp.pad(tokens, ((0, 0), (1, 0)))[:, :-1]
            out = MODEL.apply({"params": params}, inputs, shifted, jnp.ones_like(tokens), enable_dropout=False)
            return jax.nn.log_softmax(jnp.take(out, size, axis=1)).reshape(len(ROWS), MOST, -1)

        return jax.vmap(of_student)(stacked, tokens)

    return lambda tokens, size: np.asarray(run(tokens, size))


@pytest.fixture(scope="module")
def plain(next_log_probs):
    """(rule, beams, length, penalty) -> what the plain search found of each row of each student."""
    known = [{} for _ in PLACES]  # log-probabilities after each hypothesis that some search has asked for

    def look_up(asked, size):
        missing = {item: [h for h in hypotheses if h not in known[item]] for item, hypotheses in asked.items()}
        if not any(missing.values()):
            return
        tokens = np.zeros((STUDENTS, len(ROWS), MOST, LONGEST), np.int32)
        for item, hypotheses in missing.items():
            for number, hypothesis in enumerate(hypotheses):
                tokens[(*PLACES[item], number)][:size] = hypothesis
        log_probs = next_log_probs(tokens, size)
        for item, hypotheses in missing.items():
            for number, hypothesis in enumerate(hypotheses):
                known[item][hypothesis] = log_probs[(*PLACES[item], number)].tolist()

    @functools.cache
    def run(rule, beams, length, penalty):
        searches = [plain_search(beams, length, penalty, rule) for _ in PLACES]
        asked, found = {item: next(search) for item, search in enumerate(searches)}, {}
        for size in itertools.count():
            if not asked:
                return [found[item] for item in range(len(PLACES))]
            look_up(asked, size)
            for item, hypotheses in list(asked.items()):
                try:
                    asked[item] = searches[item].send([known[item][hypothesis] for hypothesis in hypotheses])
                except StopIteration as ended:
                    found[item] = ended.value
                    del asked[item]

    return run


@pytest.fixture(scope="module")
def ours(stacked):
    """(rule, beams, length, penalty) -> our hypotheses of each row of each student."""

    @functools.cache
    def program(rule, beams, length):
        settings = {"max_decode_length": length, "num_beams": beams, "beam_rule": rule}

        def of_student(params, penalty):
            return search.beam_decode(MODEL, params, INPUTS, length_penalty=penalty, **settings)

        return jax.jit(jax.vmap(of_student, (0, None)))

    @functools.cache
    def run(rule, beams, length, penalty):
        return hypotheses(*program(rule, beams, length)(stacked, penalty))

    return run


def upto_end(tokens):
    tokens = tokens.tolist()
    return tuple(tokens[: tokens.index(EOS) + 1] if EOS in tokens else tokens)


def hypotheses(tokens, scores):
    """Of arrays [students, rows, beams, …] (or of items): (tokens up to the end token, score) of each item."""
    tokens, scores = np.asarray(tokens), np.asarray(scores)
    beams = scores.shape[-1]
    rows = zip(tokens.reshape(len(PLACES), beams, -1), scores.reshape(len(PLACES), beams), strict=True)
    return [[(upto_end(t), float(s)) for t, s in zip(*row, strict=True)] for row in rows]


def assert_same(results, expected):
    """The same hypotheses in the same order, but for rows where the plain search had to decide a tie."""
    decided = [(r, e) for r, e in zip(results, expected, strict=True) if e.margin > TIE]
    assert len(decided) > 0.97 * len(expected)
    for found, wanted in decided:
        assert [tokens for tokens, _ in found] == [tokens for tokens, _ in wanted.hypotheses]
        for (_, score), (_, other) in zip(found, wanted.hypotheses, strict=True):
            assert score == pytest.approx(other, abs=1e-3)


@pytest.mark.parametrize("beams, length", BEAMS_AND_LENGTHS)
@pytest.mark.parametrize("rule", RULES)
def test_we_find_what_a_plain_search_finds(ours, plain, rule, beams, length):
    for penalty in PENALTIES:
        expected = plain(rule, beams, length, penalty)
        assert_same(ours(rule, beams, length, penalty), expected)
        best = [found.hypotheses[0][0] for found in expected]
        ended = sum(tokens[-1] == EOS for tokens in best)
        assert len(PLACES) / 10 < ended < 0.95 * len(PLACES)  # or nothing would be said of ends or of cuts


def test_the_rules_agree_where_the_docstring_says_so(plain):
    same, apart = [], []
    for one, other in zip(plain("transformers", 4, 8, 0.0), plain("t5x", 4, 8, 0.0), strict=True):
        (same if one.alike else apart).append((one, other))
    assert same and all(one.hypotheses == other.hypotheses for one, other in same)
    assert any(one.hypotheses != other.hypotheses for one, other in apart)


@pytest.fixture(scope="module")
def libraries():
    """torch and transformers; torch on one thread."""
    torch = pytest.importorskip("torch", reason="for parity tests only")
    transformers = pytest.importorskip("transformers", reason="for parity tests only")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch, transformers
    torch.set_num_threads(threads)


def test_transformers_searches_as_the_plain_search_does(plain, libraries, next_log_probs):
    torch, transformers = libraries

    class Students(transformers.PreTrainedModel, transformers.GenerationMixin):
        """All students in one network: each row of a batch is another's."""

        config_class = transformers.PretrainedConfig
        _no_split_modules = ()

        def __init__(self, config):
            super().__init__(config)
            self.unused = torch.nn.Parameter(torch.zeros(()))

        def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **settings):
            return {"input_ids": input_ids}

        def forward(self, input_ids, attention_mask=None, return_dict=True):
            beams, size = len(input_ids) // len(PLACES), input_ids.shape[1] - 1
            padded = np.zeros((STUDENTS, len(ROWS), MOST, LONGEST), np.int32)
            padded[:, :, :beams, :size] = input_ids[:, 1:].reshape(STUDENTS, len(ROWS), beams, size)
            log_probs = next_log_probs(padded, size)[:, :, :beams].reshape(len(input_ids), 1, -1)
            return transformers.modeling_outputs.CausalLMOutput(logits=torch.tensor(log_probs))

    ids = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": EOS}
    model = Students(transformers.PretrainedConfig(vocab_size=CONFIG.vocab_size, **ids)).eval()
    start = torch.zeros((len(PLACES), 1), dtype=torch.long)
    how = {"attention_mask": torch.ones_like(start), "use_cache": False, "do_sample": False}
    how |= {"return_dict_in_generate": True, "output_scores": True}
    for (beams, length), penalty in itertools.product(BEAMS_AND_LENGTHS, PENALTIES):
        sizes = {"num_beams": beams, "num_return_sequences": beams, "max_new_tokens": length}
        sizes |= {"length_penalty": penalty} if beams > 1 else {}
        with torch.inference_mode():
            out = model.generate(start, **sizes, **how)
        expected = plain("transformers", beams, length, penalty)
        if beams > 1:
            scores = out.sequences_scores
        else:  # greedy search, which says nothing of a score
            scores = np.array([found.hypotheses[0][1] for found in expected])
        tokens = out.sequences.numpy()[:, 1:]
        assert_same(hypotheses(tokens, np.reshape(scores, (len(PLACES), beams))), expected)


def test_t5x_searches_as_the_plain_search_does(plain, stacked):
    decoding = pytest.importorskip("t5x.decoding", reason="T5X is for parity tests only")

    @functools.partial(jax.jit, static_argnums=(1, 2))
    def run(penalty, beams, length):
        def of_student(params):
            def logits(state):
                tokens, inputs = state.sequences, state.cache["inputs"]
                settings = {"enable_dropout": False}
                out = MODEL.apply({"params": params}, inputs, tokens, jnp.ones_like(tokens), **settings)
                return jnp.take(out, state.cur_index, axis=1), state.cache

            start = jnp.zeros((len(ROWS), length), jnp.int32)
            cache = {"inputs": jnp.asarray(INPUTS)}
            return decoding.beam_search(start, cache, logits, EOS, num_decodes=beams, alpha=penalty)

        return jax.vmap(of_student)(stacked)

    for (beams, length), penalty in itertools.product(BEAMS_AND_LENGTHS, PENALTIES):
        tokens, scores = run(penalty, beams, length)
        results = hypotheses(tokens[:, :, ::-1], scores[:, :, ::-1])  # T5X's best come last
        expected = plain("t5x", beams, length, penalty)
        left_out = 0
        for number, (found, wanted) in enumerate(zip(results, expected, strict=True)):
            exist = [(tokens, score) for tokens, score in found if score > -1e6]
            if not any(tokens[-1] == EOS for tokens, _ in exist):
                # None has ended: T5X gives the live ones, with their log-probability for a score.
                exist = [(tokens, score / ((5 + length) / 6) ** penalty) for tokens, score in exist]
            live = wanted.hypotheses[len(exist) :]
            assert all(tokens[-1] != EOS for tokens, _ in live) or wanted.margin < TIE
            left_out += len(live)
            results[number] = exist + live
        assert_same(results, expected)
        assert left_out > STUDENTS / 10 or length == LONGEST


def test_transformers_decodes_students_as_we_do(students, ours, plain, libraries, tmp_path):
    """Each student's own folder read by transformers: greedily, and with the beams of its default settings."""
    torch, transformers = libraries
    from safetensors.torch import load_file

    inputs = torch.tensor(INPUTS, dtype=torch.long)
    how = {"attention_mask": (inputs > 0).long(), "return_dict_in_generate": True, "output_scores": True}
    how |= {"max_new_tokens": LONGEST, "do_sample": False}
    model, ended, beams = None, 0, []
    for number, params in enumerate(students):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_huggingface(folder, from_tree(params), CONFIG)
        if model is None:
            model = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()
        missing, unexpected = model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
        assert not unexpected and all("embed_tokens" in name for name in missing)
        with torch.inference_mode():
            out = model.generate(inputs, **how)
            searched = model.generate(inputs, num_beams=MOST, num_return_sequences=MOST, **how)
        steps = model.compute_transition_scores(out.sequences, out.scores, normalize_logits=True)
        past = (out.sequences[:, 1:] == EOS).cumsum(1) - (out.sequences[:, 1:] == EOS).int() > 0
        sums = steps.masked_fill(past, 0.0).sum(1)
        for item, tokens, score in continuous.decode(
            MODEL, params, ROWS, batch_size=2, longest=16, max_length=LONGEST
        ):
            expected = upto_end(out.sequences[item, 1:])
            assert upto_end(np.asarray(tokens)) == expected
            assert score == pytest.approx(float(sums[item]), abs=1e-3)
            ended += EOS in expected
        rows = searched.sequences.numpy()[:, 1:].reshape(len(ROWS), MOST, -1)
        scores = searched.sequences_scores.numpy().reshape(len(ROWS), MOST).tolist()
        beams += [
            list(zip(map(upto_end, row), of_row, strict=True)) for row, of_row in zip(rows, scores, strict=True)
        ]
    assert STUDENTS / 4 < ended < 2 * STUDENTS
    assert_same(beams, plain("transformers", MOST, LONGEST, 1.0))


def test_a_beams_score_is_that_of_teacher_forcing(students, ours):
    encode = jax.jit(likelihood.encode, static_argnums=0)
    score = jax.jit(likelihood.score_tokens, static_argnums=0)
    found = ours("transformers", MOST, LONGEST, 0.0)
    for number, params in enumerate(students):
        for row, of_row in zip(INPUTS, found[number * len(ROWS) :], strict=False):
            inputs = np.repeat(row[None], MOST, axis=0)
            targets = np.zeros((MOST, LONGEST), np.int32)
            for line, (hypothesis, _) in zip(targets, of_row, strict=True):
                line[: len(hypothesis)] = hypothesis
            # Token 0 is one that a random student writes too: what follows a hypothesis has no segment.
            lengths = np.array([len(hypothesis) for hypothesis, _ in of_row])
            segments = (np.arange(LONGEST) < lengths[:, None]).astype(np.int32)
            log_probs = score(MODEL, params, encode(MODEL, params, inputs), inputs, targets, segments)
            sums = (np.asarray(log_probs) * segments).sum(axis=1)
            np.testing.assert_allclose(sums, [score for _, score in of_row], atol=1e-3)
