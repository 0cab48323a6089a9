"""No request, whatever its body, makes an error of the server's, or fails a neighbour in its batch."""

import asyncio
import json

import pytest

pytest.importorskip("aiohttp")

from aiohttp.test_utils import TestClient, TestServer
from hypothesis import example, given, settings
from hypothesis import strategies as st

import distill_jax
from distill_jax.config import ServeConfig
from distill_jax.decoding.predict import Prediction, Request
from distill_jax.serving.app import Server
from distill_jax.serving.generation import Generation

PATHS = ("/predict", "/v1/chat/completions", "/v1/completions")
CHAT = {"model": "student", "messages": [{"role": "user", "content": "x"}]}
BASES = {
    "/predict": {"inputs": ["x", {"input": "y", "choices": ["p", "q"]}]},
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": "student", "prompt": "x"},
}
GUILTY = "an input that no student survives"
FIELDS = sorted({*BASES["/predict"], *CHAT, "prompt", "choices", "n", "n_best", "num_beams", "temperature"})
FIELDS += [
    "seed",
    "stop",
    "logprobs",
    "top_logprobs",
    "stream",
    "stream_options",
    "response_format",
    "label_by",
]
FIELDS += ["rationale", "top_p", "max_tokens", "length_penalty", "tools"]
TEXTS = st.one_of(st.text(max_size=20), st.sampled_from(["x", "rank", "\ud800", "a\ud83d", "\x00", "user"]))
NUMBERS = st.one_of(st.integers(-3, 5), st.integers(), st.floats(), st.sampled_from([1e308, 2**63, 10**400]))
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
KEYS = st.one_of(
    st.sampled_from(["role", "content", "input", "choices", "type", "json_schema", "schema"]), TEXTS
)
JSON = st.recursive(
    LEAVES, lambda each: st.lists(each, max_size=4) | st.dictionaries(KEYS, each, max_size=4), max_leaves=8
)
ROWS = st.fixed_dictionaries({"input": TEXTS}, optional={"choices": JSON | st.lists(TEXTS), "rationale": JSON})
MESSAGES = st.fixed_dictionaries({"role": st.just("user") | JSON, "content": JSON})
VALUES = JSON | st.lists(ROWS, min_size=1, max_size=3) | st.lists(MESSAGES, min_size=1, max_size=3)


def answered(server, key, items):
    """In place of the student: as quick as its tokenizer, and as little able to read what is no text."""
    for item in items:
        item.example.input.encode()
        if item.example.input == GUILTY:
            raise RuntimeError("a fault of the student's")
    if isinstance(key, Request):
        return [Prediction(label=item.example.input) for item in items]
    return [[Generation(item.example.input, 3, True, ())] * key.decoding.n_best for item in items]


@pytest.fixture(scope="module")
def client(make_run):
    """(coroutine function of the client) -> what it returns; one server for all tests."""
    predictor = distill_jax.load(make_run("step_by_step"), batch_size=4)
    limits = {"max_n": 4, "max_choices": 8, "max_text": 5000, "max_choice_tokens": 32, "max_choices_tokens": 64}
    config = ServeConfig(model_dir="-", name="student", max_queue=64, **limits)
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        patch.setattr(Server, "_run", answered)

        async def start():
            client = TestClient(TestServer(Server(predictor, config).app()))
            await client.start_server()
            return client

        client = runner.run(start())
        yield lambda test: runner.run(test(client))
        runner.run(client.close())


def outcome(client, path, body, **headers):
    """(status, body) of the answer to a body of bytes, while a neighbour asks too, who must be answered."""

    async def post(client, path, body, headers):
        async with client.post(path, data=body, headers=headers) as response:
            return response.status, await response.text()

    async def both(client):
        neighbour = json.dumps({"inputs": ["neighbour"]}).encode()
        return await asyncio.gather(
            post(client, path, body, {"Content-Type": "application/json"} | headers),
            post(client, "/predict", neighbour, {}),
        )

    (status, text), (fine, answer) = client(both)
    assert fine == 200 and json.loads(answer)["predictions"][0]["label"] == "neighbour"
    if status != 200 and "install `Brotli`" not in text:  # which aiohttp says before any route is found
        assert json.loads(text)["error"]["message"]
    return status, text


@settings(max_examples=100)
@given(st.sampled_from(PATHS), st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3), st.booleans())
@example("/predict", {"inputs": [{"input": "x", "choices": ["\udc00"]}]}, True)
@example("/predict", {"inputs": [{"input": "x", "choices": 5}]}, True)
@example("/v1/completions", {"seed": 10**4000}, True)
@example(
    "/v1/chat/completions", {"response_format": {"type": "json_schema", "json_schema": {"schema": 3}}}, True
)
def test_random_fields(client, path, fields, on_base):
    body = json.dumps((BASES[path] if on_base else {}) | fields).encode()
    assert outcome(client, path, body)[0] in (200, 400, 404)


@settings(max_examples=50)
@given(st.sampled_from(PATHS), st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
@example("/predict", b"[" * 100_000)
@example("/predict", b'{"inputs": ' + b"[" * 5000 + b"]" * 5000 + b"}")
@example("/predict", b'{"inputs": ["x"], "seed": ' + b"9" * 100_000 + b"}")
def test_random_bytes(client, path, body):
    assert outcome(client, path, body)[0] in (400, 404)


@pytest.mark.parametrize(
    "body, headers",
    [
        (json.dumps(BASES["/predict"]).encode("utf-16"), {}),
        (json.dumps({"inputs": ["ü"]}, ensure_ascii=False).encode("latin-1"), {}),
        (b'{"inputs": ["x"], "temperature": NaN}', {}),
        (b'{"inputs": ["x"], "temperature": 1e999}', {}),
        (json.dumps(BASES["/predict"]).encode(), {"Content-Encoding": "gzip"}),
        (json.dumps(BASES["/predict"]).encode(), {"Content-Encoding": "br"}),
    ],
)
def test_other_encodings_and_numbers(client, body, headers):
    assert outcome(client, "/predict", body, **headers)[0] == 400


def test_an_unknown_charset_is_no_error_as_json_is_in_utf_8(client):
    body = json.dumps({"inputs": ["ü"]}, ensure_ascii=False).encode()
    status, text = outcome(client, "/predict", body, **{"Content-Type": "application/json; charset=klingon"})
    assert status == 200 and json.loads(text)["predictions"][0]["label"] == "ü"


def test_a_fault_in_a_batch_is_its_inputs_alone(client, caplog):
    status, _ = outcome(client, "/predict", json.dumps({"inputs": [GUILTY]}).encode())
    assert status == 500 and "a batch of 2 failed" in caplog.text


@pytest.mark.parametrize(
    "path, fields, message",
    [
        ("/predict", {"inputs": ["x"] * 65}, "65 inputs in a request: at most 64 can wait"),
        ("/predict", {"inputs": ["x" * 2501] * 2}, "5002 characters of text: at most 5000"),
        ("/predict", {"inputs": [{"input": "x", "choices": list("abcdefghi")}]}, "9 choices: at most 8"),
        ("/predict", {"inputs": [{"input": "x", "choices": ["ü" * 17]}]}, "has 34 tokens: at most 32"),
        (
            "/predict",
            {
                "inputs": [
                    {"input": "x", "choices": ["a" * 30, "b" * 30]},
                    {"input": "x", "choices": ["a" * 30]},
                ]
            },
            "choices of 90 tokens: at most 64",
        ),
        ("/predict", {"inputs": ["x"], "n_best": 5}, "n_best: expected up to 4, the server's --max-n"),
        (
            "/predict",
            {"inputs": ["x"], "num_beams": 2**70},
            "num_beams: expected an integer from 1 to",
        ),
        ("/v1/completions", {"model": "student", "prompt": "x", "n": 5}, "n: expected up to 4"),
        ("/v1/completions", {"model": "student", "prompt": "x" * 5001}, "5001 characters of text"),
        ("/v1/chat/completions", CHAT | {"model": "\ud800"}, "no JSON in UTF-8"),
    ],
)
def test_what_is_more_than_the_limits(client, path, fields, message):
    status, text = outcome(client, path, json.dumps(fields).encode())
    assert status == 400 and message in json.loads(text)["error"]["message"]
