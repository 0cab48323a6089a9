"""A server in a thread of its own."""

import asyncio
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
    async def refused(self, *address):
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(asyncio.BaseEventLoop, "create_server", refused)
    with (
        pytest.raises(UserError, match="cannot listen on 127.0.0.1:0: Address already in use"),
        listen.in_background(Server(predictor, ServeConfig(model_dir="student"))),
    ):
        pytest.fail("it does not run")


def listening(predictor, test, **settings):
    """Runs `test(server, port)`, with a server of these settings on that port."""

    async def main():
        server = Server(predictor, ServeConfig(model_dir="student", **settings))
        async with listen.listening(server, "127.0.0.1", 0) as address, asyncio.timeout(30):
            return await test(server, int(address.rpartition(":")[2]))

    return asyncio.run(main())


HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"


def test_slow_clients_are_cut_off(predictor):
    async def test(server, port):
        async def sent(text):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(text)
            answer = await reader.read()  # until the server closes
            writer.close()
            return answer

        return await asyncio.gather(*map(sent, (b"", b"GET /health HT", HEALTH, POST + b'{"inp')))

    silent, half, idle, body = listening(predictor, test, client_timeout=0.2)
    assert silent == half == b"" and idle.startswith(b"HTTP/1.1 200 ")
    assert body.startswith(b"HTTP/1.1 408 ") and b"the body took longer than 0.2 s" in body


def test_who_takes_no_answer_is_cut_off(predictor, monkeypatch, caplog):
    large = listen.web.Response(text="x" * (24 << 20))

    async def answer(self, request):
        return large

    monkeypatch.setattr(Server, "_health", answer)

    async def test(server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.transport.pause_reading()
        writer.write(HEALTH)
        while "took no answer within 0.2 s" not in caplog.text:
            await asyncio.sleep(0.02)
        writer.close()

    listening(predictor, test, client_timeout=0.2)


def test_what_is_no_http_is_a_line(predictor, caplog):
    async def test(server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nno header\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return answer

    assert listening(predictor, test).startswith(b"HTTP/1.0 400 ")
    (record,) = caplog.records
    assert record.exc_info is None and record.getMessage().startswith("no HTTP from 127.0.0.1: 400")
    assert "\n" not in record.getMessage()


def test_one_connection_too_many_is_refused(predictor):
    async def test(server, port):
        async def status(count):
            pairs = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in range(count)))
            for _, writer in pairs:
                writer.write(HEALTH)
            lines = [await reader.readline() for reader, _ in pairs]
            bodies = [await reader.read(2000) for reader, _ in pairs]
            for _, writer in pairs:
                writer.close()
            await asyncio.sleep(0.05)
            return sorted(line.split()[1] for line in lines), b"".join(bodies)

        return await status(5), await status(3)

    (crowd, told), (few, _) = listening(predictor, test, max_connections=3)
    assert crowd == [b"200"] * 3 + [b"503"] * 2 and b"more than 3 connections" in told
    assert few == [b"200"] * 3


def test_it_is_ready_once_the_usual_programs_are_compiled(predictor):
    async def test(server, port):
        async def status():
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(HEALTH)
            answer = await reader.read(2000)
            writer.close()
            return answer

        server.starting = True
        warm_up = asyncio.create_task(server.warm_up())
        before = await status()
        await warm_up
        return before, await status()

    before, after = listening(predictor, test, warm_up=16)
    assert before.startswith(b"HTTP/1.1 503 ") and b'"status": "starting"' in before
    assert after.startswith(b"HTTP/1.1 200 ") and b'"status": "ok"' in after
