"""CTranslate2 as the engine: JAX's own answers where it can give them, refused by name where it cannot."""

import json
import logging
import sys

import pytest

import distill_jax
from distill_jax.checkpoints.other_formats import ctranslate as written_form
from distill_jax.cli import main as cli
from distill_jax.config import Decoding
from distill_jax.decoding import ctranslate
from distill_jax.errors import UserError
from distill_jax.models.config import T5Config
from distill_jax.models.llama_config import LlamaConfig

TEXTS = ["Premise: Ada has a trout.", "x", "Premise: Ben has a saw and an oak.", "y z"]
needs_ctranslate2 = pytest.mark.skipif(bool(written_form.missing()), reason="ctranslate2 is not installed")


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    """A cache for all tests here: a model is written once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILL_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def load(cached, make_run):
    """(method, engine) -> its predictor; batches of 8, as in other tests, so that they share programs."""
    return lambda method, engine="ctranslate2", **options: distill_jax.load(
        make_run(method), batch_size=8, engine=engine, **options
    )


@pytest.fixture(scope="module")
def predictor(load):
    return load("step_by_step")


@needs_ctranslate2
@pytest.mark.parametrize("method", ["step_by_step", "step_by_step_shared", "single_task"])
def test_labels_rationales_and_rankings_are_those_of_jax(load, method):
    ours, theirs = (load(method, engine) for engine in ("jax", "ctranslate2"))
    for how in ({"rationale": True}, {"label_by": "rank"}):
        for one, other in zip(ours.predict(TEXTS, **how), theirs.predict(TEXTS, **how), strict=True):
            assert (one.label, one.rationale) == (other.label, other.rationale)
            assert other.label_score == pytest.approx(one.label_score, abs=1e-4)
            assert other.rationale_score == pytest.approx(one.rationale_score, abs=1e-4)
            assert other.label_probs == pytest.approx(one.label_probs, abs=1e-5)


@needs_ctranslate2
def test_a_text_ends_at_the_limit_and_counts_its_end_token(load, predictor):
    exact = load("step_by_step", "jax")
    for limit in (1, 5):
        ours, theirs = (each.engine.generate(TEXTS, limit) for each in (exact, predictor))
        assert [one.tokens for (one,) in ours] == [one.tokens for (one,) in theirs]
        for (one,), (other,) in zip(ours, theirs, strict=True):
            assert one.log_prob == pytest.approx(other.log_prob, abs=1e-4)
    assert predictor.predict([]) == [] and predictor.engine.score([], []) == []


@needs_ctranslate2
def test_beams_are_searched_by_its_own_rule_and_scored_as_ours(predictor):
    decoding = Decoding(num_beams=4, n_best=4, length_penalty=0.6, beam_rule="ctranslate2")
    found, compared = predictor.engine.generate(TEXTS, 3, decoding), 0
    for hypotheses, (greedy,) in zip(found, predictor.engine.generate(TEXTS, 3), strict=True):
        scores = [each.score for each in hypotheses]
        assert len(scores) == 4 and scores == sorted(scores, reverse=True)
        for each in (each for each in hypotheses if each.tokens == greedy.tokens):
            compared += 1
            assert each.log_prob == pytest.approx(greedy.log_prob, abs=1e-4)
            assert each.score == pytest.approx(greedy.log_prob / len(each.tokens) ** 0.6, abs=1e-4)
    assert compared


@needs_ctranslate2
def test_a_checkpoint_is_written_once_and_anew_when_it_has_changed(load, predictor, monkeypatch):
    def never(*_):
        raise AssertionError("written again")

    with monkeypatch.context() as patch:
        patch.setattr(written_form, "write", never)
        assert load("step_by_step").predict(TEXTS) == predictor.predict(TEXTS)
        with pytest.raises(AssertionError, match="written again"):
            load("step_by_step", weights="int8")
    assert len(load("step_by_step", weights="int8").predict(TEXTS)) == len(TEXTS)


@needs_ctranslate2
@pytest.mark.parametrize(
    "settings, message",
    [
        ({"temperature": 1.0}, "draws samples that seed and row do not decide"),
        ({"num_beams": 2}, "has no beam_rule transformers, but its own"),
        ({"label_by": "constrain"}, "cannot constrain what is written"),
    ],
)
def test_what_it_cannot_do_is_refused(predictor, settings, message):
    with pytest.raises(UserError, match=f"CTranslate2 {message}.*: give --engine jax, or auto"):
        predictor.predict(TEXTS, **settings)


@needs_ctranslate2
def test_the_likeliest_tokens_are_refused(predictor):
    with pytest.raises(UserError, match="does not give the likeliest tokens"):
        predictor.engine.token_scores(TEXTS, [[[1]]] * 4)


def test_students_and_weights_it_does_not_have_are_refused(monkeypatch):
    t5, linear = T5Config(vocab_size=8), T5Config(vocab_size=8, mlp_activations=("linear",))
    reason = ctranslate.unavailable(t5, "bfloat16")
    assert reason == "it has no bfloat16 weights, give --weights float32 or int8"
    reason = ctranslate.unavailable(LlamaConfig(vocab_size=8), "int8")
    assert reason == "it has T5 students alone, this is a llama"
    assert ctranslate.unavailable(linear, "int8") == "it has no feed-forward of linear"
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    assert "pip install 'distill_jax[ctranslate2]'" in ctranslate.unavailable(t5, "float32")


def test_the_error_of_the_command_is_one_line(make_run, capsys):
    flags = ["infer", make_run("step_by_step"), "--engine", "ctranslate2", "--weights", "bfloat16"]
    assert cli.main([*flags, "--input", __file__, "--input-format", "text"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --engine ctranslate2: it has no bfloat16 weights")
    assert cli.main(["infer", make_run("step_by_step"), "--beams", "2", "--beam-rule", "ctranslate2"]) == 1
    assert "give --engine ctranslate2, or another beam_rule" in capsys.readouterr().err


@needs_ctranslate2
def test_auto_takes_the_faster_one_of_the_same_answers_and_says_which(load, predictor, caplog):
    with caplog.at_level(logging.WARNING, "distill_jax"):
        auto = load("step_by_step", "auto")
        assert auto.predict(TEXTS) == predictor.predict(TEXTS)  # to the last bit: it is the same engine
        assert caplog.messages == []
        exact = load("step_by_step", "jax")
        for how in ({"label_by": "constrain"}, {"label_by": "rank"}):
            assert auto.predict(TEXTS, **how) == exact.predict(TEXTS, **how)
        assert caplog.messages == ["--engine auto takes JAX too: labels are constrained"]
        caplog.clear()
        load("step_by_step", "auto", weights="bfloat16")
    assert caplog.messages == ["--engine auto takes JAX: CTranslate2 gives the same answers in float32 alone"]


@needs_ctranslate2
def test_infer_eval_and_select_say_which_engine_it_was(cached, make_run, tmp_path, capsys):
    run, rows = make_run("step_by_step"), tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"id": f"r{n}", "input": text}) + "\n" for n, text in enumerate(TEXTS)))
    engine = ["--engine", "ctranslate2", "--weights", "int8", "--batch-size", "8"]
    output = tmp_path / "out.jsonl"
    assert cli.main(["infer", run, "--input", str(rows), "--output", str(output), *engine]) == 0
    assert len(output.read_text().splitlines()) == len(TEXTS)
    settings = json.loads((tmp_path / "out.jsonl.settings.json").read_text())
    assert (settings["engine"], settings["weights"]) == ("ctranslate2", "int8")
    flags = ["eval", run, "--gin.EVAL_EXAMPLES=4", f"--gin.EVAL_OUTPUT_DIR={tmp_path}", "--label-by", "rank"]
    assert cli.main([*flags, *engine]) == 0
    assert (tmp_path / "test-0-rank-int8-ctranslate2.jsonl").exists()
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["engine"] == "ctranslate2"
    capsys.readouterr()
    assert cli.main(["select", str(rows), "--run", run, "--count", "2", *engine]) == 0
    assert len(capsys.readouterr().out.split()) == 2
    assert cli.main(["select", str(rows), "--count", "2", *engine]) == 1
    assert "--engine needs a student" in capsys.readouterr().err
