"""Mixed requests to a server, by 1, 8 and 64 clients: lost and wrong answers, latency, memory."""

import asyncio
import json
import random
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import numpy as np

from distill_jax.experiments.faults.bench import TEXTS, Bench
from distill_jax.experiments.faults.commands import Command

CLIENTS = (1, 8, 64)
GIVE_UP = 0.03  # share of requests whose client goes away before the answer
WARM_UP, WARM_UP_SECONDS = 64, 600.0  # tokens of inputs whose programs are there first; for compiling them
SETTLED = 0.25  # of the time; memory is judged after it


def bodies(name: str) -> list[tuple[str, bytes, int]]:
    """(route, body, status) of requests of many kinds; to the same there is always the same answer."""
    chat, prompt, predict = "/v1/chat/completions", "/v1/completions", "/predict"
    asked: list[tuple[str, Any, int]] = []
    for number, text in enumerate(TEXTS[:8]):
        message = {"model": name, "messages": [{"role": "user", "content": text}]}
        asked += [
            (chat, message, 200),
            (chat, message | {"stream": True}, 200),
            (chat, message | {"logprobs": True, "top_logprobs": 2}, 200),
            (prompt, {"model": name, "prompt": [text, text * 2], "temperature": 1.0, "seed": number}, 200),
            (predict, {"inputs": TEXTS[number : number + 4], "rationale": True}, 200),
            (predict, {"inputs": [text], "label_by": "rank"}, 200),
            (chat, message | {"n": -1}, 400),
            (chat, message | {"model": "another"}, 404),
            (predict, {"inputs": ["\ud800"]}, 400),
            (predict, {"inputs": [{"input": text, "choices": ["word " * 5000]}]}, 400),
        ]
    return [(route, json.dumps(body).encode(), status) for route, body, status in asked]


def said(route: str, answer: bytes) -> str:
    """What must not differ between two answers to the same: texts and labels, no ids and no times."""
    if answer.startswith(b"data: "):
        events = [json.loads(line[6:]) for line in answer.decode().splitlines() if line.startswith("data: {")]
        return "".join(c["delta"].get("content") or "" for event in events for c in event["choices"])
    body = json.loads(answer)
    if "error" in body:
        return body["error"]["message"]
    if route == "/predict":
        return repr([(each["label"], each.get("rationale")) for each in body["predictions"]])
    return repr([choice.get("text") or choice["message"]["content"] for choice in body["choices"]])


class Load:
    """Clients of one server, and what they saw."""

    def __init__(self, address: str, name: str):
        self._address, self._bodies = address, bodies(name)
        self._truth: dict[int, str] = {}
        self._chance = random.Random(0)
        self.requests = self.lost = self.wrong = self.left = 0
        self.examples: list[str] = []

    async def ask(self, session: aiohttp.ClientSession, number: int) -> float:
        """Sends a request and compares its answer with the first to the same; the seconds that it took."""
        route, body, expected = self._bodies[number]
        began = time.monotonic()
        self.requests += 1
        try:
            async with session.post(self._address + route, data=body) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.lost += 1
            self.examples.append(repr(error))
            return time.monotonic() - began
        text = said(route, answer) if response.status == expected else f"status {response.status}: {answer!r}"
        if response.status != expected or self._truth.setdefault(number, text) != text:
            self.wrong += 1
            self.examples.append(f"{route} {body[:200]!r}: {text[:200]}, not {self._truth.get(number)!r:.200}")
        return time.monotonic() - began

    async def _leave(self, session: aiohttp.ClientSession, number: int) -> None:
        """Sends a request, and goes away before there is an answer."""
        route, body, _ = self._bodies[number]
        self.left += 1
        try:
            async with asyncio.timeout(0.005), session.post(self._address + route, data=body) as response:
                await response.read()
        except TimeoutError:
            return

    async def clients(self, count: int, seconds: float) -> dict[str, float]:
        """So many clients for so long; how fast they were answered."""
        end, latencies = time.monotonic() + seconds, []

        async def client(session: aiohttp.ClientSession) -> None:
            while time.monotonic() < end:
                number = self._chance.randrange(len(self._bodies))
                if self._chance.random() < GIVE_UP:
                    await self._leave(session, number)
                else:
                    latencies.append(await self.ask(session, number))

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=count)) as session:
            await asyncio.gather(*(client(session) for _ in range(count)))
        p50, p99 = 1000 * np.percentile(latencies, [50, 99])
        return {"requests_per_second": len(latencies) / seconds, "p50_ms": p50, "p99_ms": p99}

    async def first(self) -> None:
        """Each request once, so that every program is compiled, and every answer known."""
        async with aiohttp.ClientSession() as session:
            for number in range(len(self._bodies)):
                await self.ask(session, number)


async def _watch(server: Command, samples: list[tuple[float, float]]) -> None:
    """Notes the server's memory, MiB, each second."""
    while True:
        samples.append((time.monotonic(), server.resident()))
        await asyncio.sleep(1)


async def _run(server: Command, address: str, seconds: float) -> dict[str, Any]:
    load, samples = Load(address, "run"), []
    await load.first()
    watch = asyncio.create_task(_watch(server, samples))
    speed = {f"{count} clients": await load.clients(count, seconds / len(CLIENTS)) for count in CLIENTS}
    watch.cancel()
    times, memory = np.array(samples).T
    settled = times > times[0] + SETTLED * seconds
    slope = np.polyfit(times[settled] / 3600, memory[settled], 1)[0] if settled.sum() > 2 else 0.0
    counts = {name: getattr(load, name) for name in ("requests", "lost", "wrong", "left", "examples")}
    counts["examples"] = counts["examples"][:5]
    grown = {"mib": float(memory[-1]), "mib_settled": float(memory[settled][0]), "mib_per_hour": float(slope)}
    return {"seconds": seconds, **counts, **grown, "speed": speed}


def cases(bench: Bench, count: int) -> Mapping[str, Callable[[], dict[str, Any]]]:
    """One server for `count` seconds."""

    def one() -> dict[str, Any]:
        place = bench.copy("served")
        words = bench.words("serve", place)
        words[words.index("--warm-up") + 1] = str(WARM_UP)
        with bench.start(words, place) as server:
            if not server.until("serving on ", WARM_UP_SECONDS):
                raise SystemExit(f"error: no server: {server.wait().err}")
            found = asyncio.run(_run(server, server.printed().partition("serving on ")[2].split(";")[0], count))
            server.signal(signal.SIGTERM)
            outcome = server.wait()
            return found | {"status": outcome.status, "fault": outcome.fault()}

    return {"mixed": one}
