"""Log-probabilities that are not of the labels give no `label_probs`; that is told once, with what helps."""

import dataclasses
import math

import pytest
from teacher_helpers import annotate, examples, make_plan

from distill_jax.teachers.messages import Sampling, Token
from distill_jax.teachers.openai_reply import read_reply
from distill_jax.teachers.quality import label_probabilities

ASKED = Sampling(logprobs=3)


def as_json(prompt, body):
    return '{"rationale": "It is neutral.", "label": "neutral"}'


@pytest.fixture
def server(loopback, monkeypatch):
    """Answers in JSON; the log-probabilities are from before the grammar: of words that were likelier."""
    server = loopback(answers=as_json)
    chat = server.chat

    def before_the_grammar(request, said):
        body = chat(request, said)
        for token in body["choices"][0].get("logprobs", {}).get("content", []):
            token["logprob"] = -7.5
            token["top_logprobs"] = [{"token": word, "logprob": -1.0} for word in (" and", "l", ".")]
        return body

    monkeypatch.setattr(server, "chat", before_the_grammar)
    return server


def test_a_grammar_hides_the_labels_and_that_is_told_once(server, store, caplog):
    outcome = annotate(server, store, examples(12), make_plan(structured=True, sampling=ASKED))
    assert (outcome.stored, outcome.with_probs) == (12, 0)
    [told] = caplog.messages
    assert "no label_probs: with --structured some servers" in told and "leave --structured out" in told
    assert "post_sampling_probs" in told and told.endswith("--samples N")


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        ({}, "not among the likeliest tokens: raise --logprobs"),
        ({"classes": None}, "not known: give --classes, or choices"),
    ],
)
def test_other_reasons(loopback, store, caplog, plan, told):
    server = loopback(answers=lambda prompt, body: "So the answer is Neutral.")  # it lists no other label
    annotate(server, store, examples(5), dataclasses.replace(make_plan(sampling=ASKED), **plan))
    [message] = caplog.messages
    assert told in message


def test_where_they_come_nothing_is_told(loopback, store, caplog):
    outcome = annotate(loopback(), store, examples(5), make_plan(sampling=ASKED))
    assert outcome.with_probs == 5 and not caplog.messages
    assert annotate(loopback(), store, examples(5), make_plan()).with_probs == 0 and not caplog.messages


def test_an_answer_less_likely_than_all_alternatives_says_nothing_of_the_other_labels():
    texts, others = ["negative", "positive"], {" and": -1.0, "l": -3.0}
    assert label_probabilities([Token("negative", -5.4, others)], texts) is None
    listed = {"negative": -5.4, **others}
    assert label_probabilities([Token("negative", -5.4, listed)], texts) == (1.0, 0.0)
    both = label_probabilities([Token("negative", -1.0, {"positive": -2.0, "l": -5.0})], texts)
    assert both == pytest.approx((1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))))


def test_probabilities_in_place_of_their_logarithms():
    """llama.cpp with post_sampling_probs."""
    others = [{"token": "no", "prob": 0.75}, {"token": "yes", "prob": 0.25}, {"token": "so", "prob": 0}]
    content = [{"token": "no", "prob": 0.75, "top_probs": others}]
    choice = {"message": {"content": "no"}, "finish_reason": "stop", "logprobs": {"content": content}}
    [token] = read_reply({"choices": [choice]}).answers[0].tokens
    assert token.logprob == math.log(0.75) and token.alternatives["so"] == -math.inf
    assert label_probabilities([token], ["yes", "no"]) == pytest.approx((0.25, 0.75))
