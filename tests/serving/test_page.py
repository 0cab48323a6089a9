"""The page at `/`, and what `/openapi.json` says."""

import asyncio
import html
import json
import re

import pytest

pytest.importorskip("aiohttp")

from aiohttp.test_utils import TestClient, TestServer

import distill_jax
from distill_jax.config import ServeConfig
from distill_jax.serving.app import Server
from distill_jax.serving.requests import ChatRequest, PredictRequest, PromptRequest


@pytest.fixture(scope="module")
def predictor(make_run):
    return distill_jax.load(make_run("step_by_step"), batch_size=4)


def got(predictor, path, key=None):
    """(response, text) of a route, asked for without a key."""

    async def main():
        server = Server(predictor, ServeConfig(model_dir="-", name="a <b>"), key)
        async with TestClient(TestServer(server.app())) as client:
            response = await client.get(path)
            return response, await response.text()

    return asyncio.run(main())


def test_the_page_loads_nothing_and_knows_the_student(predictor):
    response, text = got(predictor, "/")
    assert response.status == 200 and response.content_type == "text/html"
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy and policy in text
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", text) and "@import" not in text
    assert "<h1>a &lt;b&gt;</h1>" in text and "unsafe-inline" not in policy.split("script-src")[1]
    student = html.unescape(re.search(r'data-student="([^"]*)"', text)[1])
    assert student == '{"label": true, "rationale": true, "classes": true}'
    assert 'name="key"' not in text and 'name="key"' in got(predictor, "/", key="secret")[1]
    assert 'name="viewport"' in text and "prefers-color-scheme: dark" in text


def test_the_routes_are_described(predictor):
    document = json.loads(got(predictor, "/openapi.json", key="secret")[1])
    assert document["openapi"] == "3.1.0" and document["security"] == [{"key": []}]
    schemas = document["components"]["schemas"]
    for path, body in (
        ("/v1/chat/completions", ChatRequest),
        ("/v1/completions", PromptRequest),
        ("/predict", PredictRequest),
    ):
        operation = document["paths"][path]["post"]
        reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        assert set(schemas[reference.rpartition("/")[2]]["properties"]) == set(body.model_fields)
        assert {"200", "400", "429", "503"} <= set(operation["responses"])
    assert {each["type"] for each in schemas["PromptRequest"]["properties"]["prompt"]["anyOf"]} == {
        "string",
        "array",
    }
    assert document["paths"]["/v1/models/{model}"]["get"]["parameters"][0]["name"] == "model"
    assert set(document["paths"]) >= {"/", "/health", "/metrics", "/v1/models"}
