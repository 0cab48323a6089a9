import json

import pytest

pytest.importorskip("pydantic")

from distill_jax.config import Decoding
from distill_jax.data.chat_forms import ChatForms
from distill_jax.data.views import View
from distill_jax.data.vocabularies import load_vocabulary
from distill_jax.decoding.predict import Choice, Prediction, Request
from distill_jax.errors import UserError
from distill_jax.serving import requests
from distill_jax.serving.generation import Generation, Piece, forms
from distill_jax.serving.requests import BadRequest, ChatRequest, PredictRequest, PromptRequest
from distill_jax.serving.responses import cut, events, prediction, response_body

LABEL, RATIONALE = View("label", "label", "[label] "), View("rationale", "rationale", "[rationale] ")
BYTES = load_vocabulary("bytes")


def read(kind, fields):
    return requests.read(kind, json.dumps(fields).encode())


def chat(**changes):
    return {"model": "m", "messages": [{"role": "user", "content": "hello"}]} | changes


def test_the_last_message_of_the_user_is_the_input():
    messages = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": [{"type": "text", "text": "thr"}, {"type": "text", "text": "ee"}]},
    ]
    asked = read(ChatRequest, chat(messages=messages))
    assert asked.texts(ChatForms()) == ("three",) and asked.likeliest is None and asked.decoding.num_beams == 1


def test_settings_are_read():
    asked = read(
        ChatRequest, chat(temperature=0.5, top_p=0.9, n=3, seed=7, logprobs=True, top_logprobs=4, stop="x")
    )
    assert (asked.decoding.temperature, asked.decoding.top_p, asked.n) == (0.5, 0.9, 3)
    assert asked.decoding.n_best == 4  # few numbers are compiled
    assert (asked.seed, asked.likeliest, asked.stop) == (7, 4, ["x"])
    asked = read(PromptRequest, {"model": "m", "prompt": ["a", "b"], "n": 2, "logprobs": 0, "max_tokens": 5})
    assert asked.texts(ChatForms("{system} {user}")) == ("a", "b") and asked.decoding.num_beams == 2
    assert asked.likeliest == 0 and asked.token_limit == 5


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model": None}, "model"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "role `user`"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "text only"),
        ({"messages": [{"role": "user", "content": ""}]}, "no text"),
        ({"temperature": "hot"}, "temperature: expected a number"),
        ({"temperature": 3}, "temperature: expected a number from 0 to 2, got 3"),
        ({"n": 0}, "n: expected an integer from 1 to 1048576, got 0"),
        ({"num_beams": 1 << 63}, "^num_beams: expected an integer from 1 to 1048576, got 9223372036854775808"),
        ({"n": 3, "num_beams": 2}, "^3 answers need as many num_beams, not 2, or"),
        ({"n": True}, "n: expected an integer"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"stream": "yes"}, "stream: expected true or false"),
        ({"stream_options": 3}, "stream_options: expected an object"),
        ({"tools": [{}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "plain text"),
        ({"response_format": {"type": "xml"}}, "json_object or json_schema"),
        ({"stop": [3]}, "stop"),
        ({"temperature": 1, "num_beams": 3}, "exclude each other"),
    ],
)
def test_what_cannot_be_done_is_said(changes, message):
    with pytest.raises(UserError, match=message):
        asked = read(ChatRequest, chat(**changes))
        asked.check_format(None)
        asked.texts(ChatForms())


def test_json_is_written_where_the_template_is_json_and_the_fields_are_the_students():
    form = forms((LABEL, RATIONALE), "json")[""]
    assert form.json and form.views == (RATIONALE, LABEL)

    def written(form):
        return "".join(part if isinstance(part, str) else part.name for part in form.parts)

    assert written(form) == '{"rationale": "rationale", "label": "label"}'
    assert written(forms((LABEL,), "json")[""]) == '{"label": "label"}'
    with pytest.raises(UserError, match="needs a student of label and rationale, not of single_task"):
        forms((View("single_task", "label", ""),), "json")
    for kind, required, fine in (
        ("json_object", None, True),
        ("json_schema", ["label"], True),
        ("json_schema", 5, True),
        ("json_schema", ["label", "score"], False),
    ):
        schema = {"json_schema": {"name": "a", "schema": {"type": "object", "required": required}}}
        asked = read(ChatRequest, chat(response_format={"type": kind} | schema))
        if fine:
            asked.check_format(["rationale", "label"])
        else:
            with pytest.raises(BadRequest, match="no field 'score': this student writes rationale, label"):
                asked.check_format(["rationale", "label"])


def test_null_is_absent_and_greedy_decoding_reads_no_top_p():
    asked = read(ChatRequest, chat(temperature=None, top_p=0, top_k=-1, seed=None, stop=None, logit_bias={}))
    assert asked.decoding == Decoding() and asked.seed is None and asked.likeliest is None
    with pytest.raises(BadRequest, match="top_p: expected a number from 1e-06 to 1, got 0"):
        read(ChatRequest, chat(temperature=1, top_p=0))


def test_a_body_of_predict():
    body = {"inputs": ["x", {"input": "y"}], "label_by": "rank", "temperature": 0.5, "n_best": 2, "seed": 7}
    asked = read(PredictRequest, body)
    assert asked.request == Request(label_by="rank", decoding=Decoding(temperature=0.5, n_best=2, seed=7))
    for changes, param, message in (
        ({"inputs": []}, "inputs", "inputs: expected a list of texts or objects"),
        ({"beams": 2, "label": 1}, None, "unknown field 'beams': expected some of inputs, label"),
        ({"label": 1}, "label", "label: expected true or false, got 1"),
        ({"label": False}, None, "neither label nor rationale"),
    ):
        with pytest.raises(BadRequest, match=message) as error:
            read(PredictRequest, body | changes)
        assert error.value.param == param


def completion(text, ended=True):
    pieces = tuple(Piece(letter, -0.5, ((letter, -0.5), ("z", -2.0))) for letter in text)
    return Generation(text, len(text) + 1, ended, pieces)


def test_answers_are_cut_and_say_why():
    for changes, text, reason in (
        ({}, "abcdef", "stop"),
        ({"max_tokens": 4}, "abcd", "length"),
        ({"max_tokens": 6}, "abcdef", "stop"),
        ({"max_completion_tokens": 2, "max_tokens": 4}, "ab", "length"),
        ({"stop": ["f", "cd"]}, "ab", "stop"),
    ):
        found, why = cut(completion("abcdef"), read(ChatRequest, chat(**changes)), BYTES)
        assert (found.text, why) == (text, reason)
        assert "".join(piece.text for piece in found.pieces) == text
    assert cut(completion("ab", ended=False), read(ChatRequest, chat()), BYTES)[1] == "length"


def test_bodies_of_both_endpoints():
    asked = read(ChatRequest, chat(logprobs=True, top_logprobs=1))
    body = response_body(asked, [[(completion("ab"), "stop")]], 9, chat=True, fingerprint="step-1")
    [choice] = body["choices"]
    assert choice["message"]["content"] == "ab" and choice["finish_reason"] == "stop"
    first = choice["logprobs"]["content"][0]
    assert first["token"] == "a" and first["logprob"] == -0.5 and first["bytes"] == [97]
    assert [best["token"] for best in first["top_logprobs"]] == ["a"]
    assert body["usage"] == {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    asked = read(PromptRequest, {"model": "m", "prompt": ["p", "q"], "logprobs": 2})
    two = [[(completion("ab"), "stop")], [(completion("c"), "stop")]]
    body = response_body(asked, two, 9, chat=False, fingerprint="step-1")
    assert [(choice["index"], choice["text"]) for choice in body["choices"]] == [(0, "ab"), (1, "c")]
    assert body["choices"][0]["logprobs"]["text_offset"] == [0, 1]
    assert body["choices"][0]["logprobs"]["top_logprobs"][1] == {"b": -0.5, "z": -2.0}


def test_a_stream_has_what_the_body_has():
    asked = read(ChatRequest, chat(logprobs=True, stream=True))
    body = response_body(asked, [[(completion("ab"), "stop")]], 9, chat=True, fingerprint="step-1")
    *lines, last = events(body, chat=True, with_usage=True).split("\n\n")[:-1]
    begun, ended, usage = (json.loads(line.removeprefix("data: ")) for line in lines)
    [choice] = body["choices"]
    assert last == "data: [DONE]" and begun["object"] == "chat.completion.chunk" and begun["id"] == body["id"]
    assert begun["choices"][0]["delta"] == {"role": "assistant", "content": "ab"}
    assert begun["choices"][0]["logprobs"] == choice["logprobs"]
    assert begun["choices"][0]["finish_reason"] is None and begun["usage"] is None
    assert ended["choices"] == [{"index": 0, "finish_reason": "stop", "logprobs": None, "delta": {}}]
    assert usage["choices"] == [] and usage["usage"] == body["usage"]


def test_no_more_is_returned_than_was_asked_for():
    texts = tuple(Choice(letter, 0.0) for letter in "abcd")
    answer = Prediction(label="a", labels=texts, rationale="a", rationales=texts)
    for by, labels in (("generate", 3), ("rank", 4)):  # all labels are ranked
        asked = read(PredictRequest, {"inputs": ["x"], "n_best": 3, "temperature": 1, "label_by": by})
        assert asked.request.decoding.n_best == 4
        body = prediction(answer, asked)
        assert len(body["labels"]) == labels and len(body["rationales"]) == 3


def test_the_forms_of_an_answer():
    both = forms((LABEL, RATIONALE))
    assert set(both) == {"", ":label", ":rationale"}
    assert both[""].parts == (RATIONALE, " So the answer is: ", LABEL)
    assert set(forms((LABEL,))) == {""}
    own = forms((LABEL, RATIONALE), "{rationale} The answer is {label}.")
    assert own[""].parts == (RATIONALE, " The answer is ", LABEL, ".")
    for template, message in (
        ("{why}", "{label}, {rationale}"),
        ("always", "no field"),
        ("{label", "expected"),
    ):
        with pytest.raises(UserError, match=message):
            forms((LABEL, RATIONALE), template)
