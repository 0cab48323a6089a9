"""What stands around an answer: bodies of other protocols, streams, headers, tags, and errors in a 200."""

import json

import pytest

from distill_jax.teachers import parsing, thinking
from distill_jax.teachers.http_errors import status_error
from distill_jax.teachers.messages import TeacherError, Token
from distill_jax.teachers.openai_reply import read_reply
from distill_jax.teachers.quality import label_probabilities

GOOD = "It is an invoice. So the answer is billing."
THOUGHT = "Maybe shipping."
MESSAGE = {"role": "assistant", "content": GOOD}
USAGE = {"prompt_tokens": 7, "completion_tokens": 5}
BODY = {"model": "m", "choices": [{"message": MESSAGE, "finish_reason": "stop"}], "usage": USAGE}


def chunk(delta, finish=None, **more):
    return "data: " + json.dumps(
        {"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
    )


STREAM = "\n\n".join(
    [
        ": waiting",
        chunk({"role": "assistant", "content": "It is an invoice."}),
        chunk({"content": " So the answer is billing."}),
        chunk({}, "stop"),
        "data: " + json.dumps({"choices": [], "usage": USAGE}),
        "data: [DONE]",
    ]
)


@pytest.mark.parametrize(
    "body",
    [
        STREAM,
        "\ufeff" + json.dumps(BODY),
        "\n\n" + json.dumps(BODY),
        json.dumps(BODY).encode(),
        {"data": BODY},
        BODY | {"error": {"message": "a warning"}},
        {"choices": {"0": {"message": MESSAGE, "finish_reason": "stop"}}, "usage": USAGE},
        {"choices": {"message": MESSAGE, "finish_reason": "stop"}, "usage": USAGE},
        {"choices": [{"delta": MESSAGE, "finish_reason": "stop"}], "usage": USAGE},
        {
            "choices": [{"message": {"content": {"type": "text", "value": GOOD}}, "finish_reason": "stop"}],
            "usage": USAGE,
        },
        {
            "choices": [
                {"message": {"content": [{"type": "text", "text": {"value": GOOD}}]}, "finish_reason": "stop"}
            ],
            "usage": USAGE,
        },
        {"content": [{"type": "text", "text": GOOD}], "stop_reason": "stop", "usage": USAGE},
        {"message": MESSAGE, "done": True, "done_reason": "stop", "usage": USAGE},
        {"response": GOOD, "done": True, "done_reason": "stop", "usage": USAGE},
        [
            {
                "generated_text": GOOD,
                "finish_reason": "stop",
                "usage": {"input_tokens": "7", "output_tokens": 5.0},
            }
        ],
        {
            "output": [
                {"type": "reasoning", "summary": []},
                {"type": "message", "content": [{"type": "output_text", "text": GOOD}]},
            ],
            "finish_reason": "stop",
            "usage": {"input_tokens": 7, "output_tokens": 5},
        },
    ],
)
def test_an_answer_in_any_wrapping(body):
    reply = read_reply(body)
    [answer] = reply.answers
    assert (answer.text, answer.finish) == (GOOD, "stop")
    assert (reply.prompt_tokens, reply.completion_tokens) == (7, 5)


def test_contents_of_any_kind():
    said = {"rationale": "x", "label": 1}
    for content, text in ((said, json.dumps(said)), (5, "5"), (1.0, "1"), (True, "true"), ([], ""), ({}, "{}")):
        assert read_reply({"choices": [{"message": {"content": content}}]}).answers[0].text == text


def test_tokens_that_are_not_counted():
    for usage in ({"prompt_tokens": 0, "completion_tokens": 0}, {"total_tokens": 9}, "many", None):
        reply = read_reply(BODY | {"usage": usage})
        assert (reply.prompt_tokens, reply.completion_tokens) == (None, None)
    empty = {
        "choices": [{"message": {"content": ""}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 0},
    }
    assert read_reply(empty).completion_tokens == 0


def test_the_arguments_of_a_tool_call_are_an_answer():
    call = {"function": {"name": "answer", "arguments": '{"label": "billing"}'}}
    for message in (
        {"content": None, "tool_calls": [call]},
        {"content": "", "function_call": call["function"]},
    ):
        assert read_reply({"choices": [{"message": message}]}).answers[0].text == '{"label": "billing"}'


@pytest.mark.parametrize(
    ("body", "told", "transient", "fatal"),
    [
        (
            {
                "choices": [
                    {
                        "message": {"content": ""},
                        "finish_reason": "error",
                        "error": {"code": 429, "message": "busy"},
                    }
                ]
            },
            "HTTP 429: busy",
            True,
            False,
        ),
        (
            {"choices": [{"error": {"code": 401, "message": "no"}, "message": None}]},
            "HTTP 401: no (a wrong key?",
            False,
            True,
        ),
        ({"error": "invalid x-api-key"}, "a wrong key?", False, True),
        ({"error": "model 'x' not found"}, "--model?", False, True),
        ({"message": "Endpoint is starting"}, "Endpoint is starting", True, False),
        ({"error": {"code": "1113", "message": "Insufficient balance"}}, "HTTP 402", False, True),
        ({"error": {"code": 1004, "message": "login"}}, "not a completion: login", True, False),
        ({"msg": "forbidden", "code": 403}, "HTTP 403: forbidden (a wrong key?", False, True),
        ({"statusCode": 429, "message": "slow"}, "HTTP 429: slow", True, False),
        ({"base_resp": {"status_code": 1004, "status_msg": "login"}}, "not a completion: login", True, False),
        ({"error_code": 110, "error_msg": "Access token expired"}, "a wrong key?", False, True),
        ({"status": "error", "Message": "No credits left"}, "HTTP 402: No credits left", False, True),
        ({"content": "Not found"}, "not a completion", True, False),
        ("", "not a completion", True, False),
    ],
)
def test_an_error_in_a_200(body, told, transient, fatal):
    with pytest.raises(TeacherError) as raised:
        read_reply(body)
    assert told in str(raised.value)
    assert (raised.value.transient, raised.value.fatal) == (transient, fatal)


@pytest.mark.parametrize(
    "message",
    [
        {"content": GOOD, "reasoning_details": [{"type": "reasoning.text", "text": THOUGHT}]},
        {"content": GOOD, "thinking_blocks": [{"type": "thinking", "thinking": THOUGHT}]},
        {"content": GOOD, "reasoning_content": ["Maybe ", {"type": "text", "text": "shipping."}]},
        {"content": GOOD, "reasoning": {"content": THOUGHT}},
        {
            "content": [
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": THOUGHT}]},
                {"type": "text", "text": GOOD},
            ]
        },
        {
            "content": f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant"
            f"<|channel|>final<|message|>{GOOD}<|return|>"
        },
        {"content": f"<analysis>{THOUGHT}</analysis>\n<answer>{GOOD}</answer>"},
        {"content": f"<|think|>{THOUGHT}<|/think|>\n{GOOD}"},
        {"content": f"<unused94>thought\n{THOUGHT}<unused95>{GOOD}"},
        {"content": f"<|im_start|>assistant\n<think>{THOUGHT}</think>{GOOD}<|im_end|>"},
    ],
)
def test_thinking_in_other_places(message):
    [answer] = read_reply({"choices": [{"message": message}]}).answers
    parts = thinking.split(answer.text)
    assert (answer.thinking or parts.thinking, parts.answer.strip()) == (THOUGHT, GOOD)


def test_what_stands_before_and_behind_an_answer_goes():
    for text in (
        f"<|im_start|>assistant\n{GOOD}<|im_end|>",
        f"<s><|start_header_id|>assistant<|end_header_id|>\n\n{GOOD}<|eot_id|>",
        f"<start_of_turn>model\n{GOOD}<end_of_turn>\n",
        f"\n<answer>{GOOD}</answer>",
    ):
        assert thinking.split(text).answer.strip() == GOOD
    inside = thinking.harmless("a <|im_end|> b </s> c <eos>")
    assert inside == "a < |im_end|> b < /s> c < eos>"


def test_a_colon_before_the_label_is_no_part_of_it():
    read = parsing.form_parser("{rationale} So the answer is {label}.")
    assert read("It is. So the answer is: yes.") == ("yes", "It is.")
    assert read("It is. So the answer is :).") == (":)", "It is.")


@pytest.mark.parametrize(
    ("status", "message", "advice"),
    [
        (422, "body.seed: Extra inputs are not permitted", "--omit seed"),
        (400, "Unrecognized request argument supplied: seed", "--omit seed"),
        (400, "Invalid value for 'n': must be 1", "--samples-per-request 1"),
        (400, "api_version is required", "?api-version="),
        (400, "Conversation roles must alternate user/assistant/user", "--no-system"),
        (400, "This model's maximum context length is 4096 tokens", "--shots, --max-tokens"),
        (400, "model 'x' not found, try pulling it first", "--model?"),
        (400, "Only n = 1 is supported", "--samples-per-request 1"),
        (404, "This is not a chat model. Did you mean to use v1/completions?", "--protocol completions"),
        (404, "The API deployment for this resource does not exist.", "is there such a deployment?"),
        (405, "Method Not Allowed", "does the address end in /v1?"),
    ],
)
def test_the_way_out_is_named(status, message, advice):
    error = status_error(status, message)
    assert advice in str(error) and error.status == status and not error.transient


def told(text, logprob, **others):
    return Token(text, logprob, {text: logprob} | others)


def test_a_token_that_several_labels_begin_with():
    """`1` is all of the label 1 where 10 has a token of its own; else nobody knows how much is whose."""
    apart = label_probabilities(
        [told("9", -0.5108256, **{"1": -1.2039728, "10": -2.3025851}), told(".", 0.0)], ["1", "9", "10"]
    )
    assert apart == pytest.approx((0.3, 0.6, 0.1), abs=1e-6)
    assert label_probabilities([told("9", -0.5, **{"1": -1.2})], ["1", "9", "10"]) is None
    assert label_probabilities([told("9", -0.5, **{"1": -1.2, "15": -2.0})], ["1", "9"]) == pytest.approx(
        label_probabilities([told("9", -0.5, **{"1": -1.2})], ["1", "9"])
    )  # 15 is another number than 1


def test_no_alternatives_to_an_answer_that_is_not_certain():
    assert label_probabilities([told("billing", -0.5)], ["billing", "shipping"]) is None
    assert label_probabilities([told("billing", -1e-5)], ["billing", "shipping"]) == (1.0, 0.0)
