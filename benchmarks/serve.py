"""Requests per second and latency of `distill-jax serve`: `python -m benchmarks.serve URL MODEL INPUTS.jsonl`.

Clients, each with a connection of its own, send the `input` of each row as a chat completion, twice. Reported
are the median and the 99th percentile of the second round, with every program compiled. INPUTS.jsonl is a
predictions file, or an input of `distill-jax infer`.
"""

import argparse
import asyncio
import json
import pathlib
import time

import aiohttp
import numpy as np


async def _round(url: str, model: str, texts: list[str], concurrency: int) -> tuple[float, list[float]]:
    """Seconds in all, and of each request."""
    texts_left, latencies = iter(texts), []

    async def client(session: aiohttp.ClientSession) -> None:
        for text in texts_left:
            body = {"model": model, "messages": [{"role": "user", "content": text}]}
            began = time.monotonic()
            async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                response.raise_for_status()
                await response.read()
            latencies.append(time.monotonic() - began)

    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector) as session:
        began = time.monotonic()
        await asyncio.gather(*(client(session) for _ in range(concurrency)))
        return time.monotonic() - began, latencies


async def _main(args: argparse.Namespace) -> None:
    rows = pathlib.Path(args.inputs).read_text(encoding="utf-8").splitlines()
    texts = [json.loads(row)["input"] for row in rows][: args.count]
    for concurrency in args.concurrency:
        await _round(args.url, args.model, texts, concurrency)
        seconds, latencies = await _round(args.url, args.model, texts, concurrency)
        p50, p99 = 1000 * np.percentile(latencies, [50, 99])
        rate = len(texts) / seconds
        print(f"{concurrency:4} clients: {rate:6.0f} requests/s, p50 {p50:.0f} ms, p99 {p99:.0f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("inputs")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 64])
    asyncio.run(_main(parser.parse_args()))
