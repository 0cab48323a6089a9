"""A server in a thread of its own."""

import json
import urllib.error
import urllib.request

import pytest

pytest.importorskip("aiohttp")

import distill_jax
from distill_jax.config import ServeConfig
from distill_jax.errors import UserError
from distill_jax.serving import listen
from distill_jax.serving.app import Server


@pytest.fixture(scope="module")
def predictor(make_run):
    return distill_jax.load(make_run("step_by_step"), batch_size=4)


def health(address):
    with urllib.request.urlopen(f"{address}/health", timeout=30) as response:
        return json.load(response)


def test_it_answers_while_the_block_runs_and_no_longer(predictor):
    with listen.in_background(Server(predictor, ServeConfig(model_dir="student"))) as address:
        assert address.startswith("http://127.0.0.1:")
        assert health(address) == {"status": "ok", "model": "student", "step": 0}
        with listen.in_background(Server(predictor, ServeConfig(model_dir="other"))) as second:
            assert second != address and health(second)["model"] == "other"
    with pytest.raises(urllib.error.URLError):
        health(address)


def test_an_error_of_the_block_ends_it_too(predictor):
    with (
        pytest.raises(KeyError),
        listen.in_background(Server(predictor, ServeConfig(model_dir="student"))) as address,
    ):
        raise KeyError
    with pytest.raises(urllib.error.URLError):
        health(address)


def test_no_address_is_told(predictor, monkeypatch):
    async def refused(self):
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(listen.web.TCPSite, "start", refused)
    with (
        pytest.raises(UserError, match="cannot listen on 127.0.0.1:0: Address already in use"),
        listen.in_background(Server(predictor, ServeConfig(model_dir="student"))),
    ):
        pytest.fail("it does not run")
