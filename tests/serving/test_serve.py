"""A student behind HTTP, on a free port of this machine."""

import asyncio
import concurrent.futures
import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

pytest.importorskip("aiohttp")

from aiohttp.test_utils import TestClient, TestServer

import distill_jax
from distill_jax.config import ServeConfig
from distill_jax.serving.app import Server


@pytest.fixture(scope="module")
def predictor(make_run):
    return distill_jax.load(make_run("step_by_step"), batch_size=4)


def with_client(predictor, test, key=None, **settings):
    async def main():
        server = Server(predictor, ServeConfig(model_dir="-", name="student", **settings), key)
        async with TestClient(TestServer(server.app())) as client, asyncio.timeout(120):
            return await test(client)

    return asyncio.run(main())


CHAT = {"model": "student", "messages": [{"role": "user", "content": "Premise: Ada has a car."}]}


def test_a_chat_says_what_the_student_predicts(predictor):
    async def test(client):
        answers = {}
        for name in ("student", "student:label", "student:rationale"):
            response = await client.post("/v1/chat/completions", json=CHAT | {"model": name})
            answers[name] = (await response.json())["choices"][0]["message"]["content"]
        response = await client.post(
            "/predict", json={"inputs": ["Premise: Ada has a car."], "rationale": True}
        )
        return answers, (await response.json())["predictions"][0]

    answers, predicted = with_client(predictor, test)
    [direct] = predictor.predict(["Premise: Ada has a car."], rationale=True)
    assert answers["student:label"] == predicted["label"] == direct.label
    assert answers["student:rationale"] == predicted["rationale"] == direct.rationale
    assert answers["student"] == f"{direct.rationale} So the answer is: {direct.label}"


def test_another_engine_answers_the_same_and_refuses_what_it_cannot_do(
    predictor, make_run, tmp_path, monkeypatch
):
    pytest.importorskip("ctranslate2", reason="an extra")
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path))

    async def test(client):
        asked = CHAT | {"model": "student:label"}
        bodies = (asked, asked | {"logprobs": True, "top_logprobs": 3}, asked | {"temperature": 1.0})
        responses = [await client.post("/v1/chat/completions", json=body) for body in bodies]
        return [(response.status, await response.json()) for response in responses]

    other = distill_jax.load(make_run("step_by_step"), batch_size=4, engine="ctranslate2")
    (status, body), *refused = with_client(other, test)
    [direct] = predictor.predict(["Premise: Ada has a car."])
    assert status == 200 and body["choices"][0]["message"]["content"] == direct.label
    for (status, body), text in zip(refused, ("(logprobs)", "draws samples"), strict=True):
        assert status == 400 and text in body["error"]["message"]


def test_log_probabilities_are_those_of_the_answer(predictor):
    async def test(client):
        body = CHAT | {"model": "student:label", "logprobs": True, "top_logprobs": 3}
        return await (await client.post("/v1/chat/completions", json=body)).json()

    choice = with_client(predictor, test)["choices"][0]
    content = choice["logprobs"]["content"]
    [direct] = predictor.predict(["Premise: Ada has a car."])
    ended = choice["finish_reason"] == "stop"
    if not ended:  # an untrained student seldom ends; its score is then that of the tokens shown
        assert sum(token["logprob"] for token in content) == pytest.approx(direct.label_score, abs=1e-3)
    for token in content:
        assert len(token["top_logprobs"]) == 3
        assert token["logprob"] == pytest.approx(token["top_logprobs"][0]["logprob"], abs=1e-4)  # greedy
        assert math.exp(token["logprob"]) <= 1.0


def test_requests_of_many_connections_share_batches(predictor):
    async def test(client):
        bodies = [CHAT | {"messages": [{"role": "user", "content": "x" * n}]} for n in range(1, 13)]
        responses = await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for body in bodies))
        texts = [(await response.json())["choices"][0]["message"]["content"] for response in responses]
        metrics = await (await client.get("/metrics")).text()
        return texts, metrics

    texts, metrics = with_client(predictor, test, max_wait_ms=100.0)
    direct = predictor.predict(["x" * n for n in range(1, 13)], rationale=True)
    assert texts == [f"{p.rationale} So the answer is: {p.label}" for p in direct]
    figures = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    assert float(figures["distill_jax_batch_inputs_count"]) == 3
    counted = 'distill_jax_requests_total{route="/v1/chat/completions",status="200"}'
    assert float(figures[counted]) == 12
    assert float(figures["distill_jax_completion_tokens_total"]) > 12


def test_samples_are_seeded(predictor):
    async def test(client):
        body = {"model": "student:label", "prompt": ["x", "y"], "temperature": 1.0, "n": 2}
        texts = []
        for seed in (1, 1, 2):
            answer = await (await client.post("/v1/completions", json=body | {"seed": seed})).json()
            texts.append([choice["text"] for choice in answer["choices"]])
        return texts

    first, again, other = with_client(predictor, test)
    assert len(first) == 4 and first == again != other


def test_classes_are_ranked(predictor):
    async def test(client):
        body = {"inputs": [{"input": "x", "choices": ["p", "q"]}, "y"], "label_by": "rank"}
        return await (await client.post("/predict", json=body)).json()

    one, two = with_client(predictor, test)["predictions"]
    assert set(one["label_probs"]) == {"p", "q"} and len(two["label_probs"]) == 3
    assert two["labels"][0]["text"] == two["label"] and len(two["labels"]) == 3


def test_mistakes_get_an_error_that_clients_read(predictor):
    requests = [
        ("/v1/chat/completions", CHAT | {"model": "gpt"}, 404, "there are student, student:label"),
        ("/v1/chat/completions", CHAT | {"n": -1}, 400, "n: expected"),
        ("/v1/chat/completions", [], 400, "no JSON object"),
        ("/predict", {"inputs": ["x"], "beams": 2}, 400, "unknown field 'beams'"),
        ("/predict", {"inputs": []}, 400, "inputs"),
        ("/predict", {"inputs": [3]}, 400, "input 0: expected a text"),
        ("/predict", {"inputs": ["x"], "label_by": "guess"}, 400, "label_by"),
        ("/predict", {"inputs": ["x"] * 9}, 400, "at most 8 can wait"),
        ("/nowhere", {}, 404, "Not Found"),
    ]

    async def test(client):
        for path, body, status, message in requests:
            response = await client.post(path, json=body)
            error = (await response.json())["error"]
            assert response.status == status and message in error["message"], error
            assert error["type"] == "invalid_request_error"
        response = await client.post("/predict", data=b"{broken")
        assert response.status == 400 and "no JSON" in (await response.json())["error"]["message"]

    with_client(predictor, test, max_queue=8)


def test_a_full_queue_answers_429_and_a_slow_student_503(predictor, monkeypatch):
    import threading

    gate = threading.Event()
    original = Server._run
    monkeypatch.setattr(Server, "_run", lambda *a: gate.wait(20) and original(*a))

    async def test(client):
        body = {"inputs": ["x"] * 4}
        running = asyncio.create_task(client.post("/predict", json=body))
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(client.post("/predict", json=body))
        await asyncio.sleep(0.1)
        full = await client.post("/predict", json=body)
        slow = await waiting
        gate.set()
        await running
        fine = await client.post("/predict", json=body)
        return full, slow, fine

    full, slow, fine = with_client(predictor, test, max_queue=4, timeout=2.0)
    assert full.status == 429 and full.headers["Retry-After"] == "1"
    assert slow.status == 503 and fine.status == 200


def test_a_key_is_asked_for(predictor):
    async def test(client):
        headers = {"Authorization": "Bearer secret"}
        statuses = [
            (await client.get("/v1/models")).status,
            (await client.get("/v1/models", headers={"Authorization": "Bearer wrong"})).status,
            (await client.get("/v1/models", headers=headers)).status,
            (await client.get("/health")).status,
        ]
        models = await (await client.get("/v1/models", headers=headers)).json()
        return statuses, [model["id"] for model in models["data"]]

    statuses, models = with_client(predictor, test, key="secret")
    assert statuses == [401, 401, 200, 200]
    assert models == ["student", "student:label", "student:rationale"]


@contextlib.contextmanager
def serving(folder, *flags):
    """The command in a process of its own; gives the process and its address."""
    command = [
        sys.executable,
        "-m",
        "distill_jax.cli",
        "serve",
        folder,
        "--port",
        "0",
        "--name",
        "student",
        "--batch-size",
        "4",
        "--warm-up",
        "16",
        *flags,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        listening, ready = process.stdout.readline(), process.stdout.readline()
        if not ready:
            pytest.fail(process.stderr.read())
        address = ready.split()[2].rstrip(";")
        assert listening == f"listening on {address}: compiling for inputs of up to 16 tokens\n"
        yield process, address
    finally:
        process.kill()
        process.communicate()


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def test_the_command_serves_openais_client_and_stops_cleanly(make_run):
    with serving(make_run("single_task"), "--max-wait-ms", "300") as (process, address):
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}/health") as response:
            assert json.load(response) == {"status": "ok", "model": "student", "step": 0}
        try:
            import openai
        except ImportError:
            post(f"{address}/v1/chat/completions", CHAT)
        else:
            client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
            answer = client.chat.completions.create(**CHAT, logprobs=True, n=2)
            assert len(answer.choices) == 2 and answer.usage.completion_tokens > 0
            assert isinstance(answer.choices[0].logprobs.content[0].logprob, float)
            with pytest.raises(openai.NotFoundError, match="there are student"):
                client.chat.completions.create(**CHAT | {"model": "other"})
        with concurrent.futures.ThreadPoolExecutor() as threads:
            under_way = threads.submit(post, f"{address}/predict", {"inputs": ["x"], "rationale": True})
            with pytest.raises(concurrent.futures.TimeoutError):
                under_way.result(0.1)  # it waits for company
            os.kill(process.pid, signal.SIGTERM)
            assert isinstance(under_way.result(60)["predictions"][0]["label"], str)
        assert process.wait(60) == 0
        assert "Traceback" not in process.stderr.read()


def test_an_address_that_is_taken_gives_one_line(make_run):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        flags = ["serve", make_run("single_task"), "--port", str(port)]
        out = subprocess.run([sys.executable, "-m", "distill_jax.cli", *flags], capture_output=True, text=True)
    assert out.returncode == 1
    assert out.stderr.strip().splitlines()[-1].startswith(f"error: cannot listen on 127.0.0.1:{port}: ")
