import asyncio
import itertools
import json
import os
import pathlib
import sys

import pytest

from distill_jax.data.schema import Example
from distill_jax.teachers.annotate import Annotator, Limits
from distill_jax.teachers.demonstrations import selector
from distill_jax.teachers.jobs import Plan
from distill_jax.teachers.openai_client import OpenAIClient
from distill_jax.teachers.prompts import load_template
from distill_jax.teachers.protocol import Sampling
from distill_jax.teachers.store import Store

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from loopback import CLASSES, Loopback

SHARED = pathlib.Path(os.environ.get("DISTILL_JAX_SHARED") or pathlib.Path(__file__).parents[3] / "shared")
KEY = "planted-key-0123456789"


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("DISTILL_JAX_DATA_DIR", raising=False)
    monkeypatch.delenv("DISTILL_JAX_TEACHER", raising=False)
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def datasets(monkeypatch):
    if not (SHARED / "datasets").is_dir():
        pytest.skip("no data sets beside the repository")
    monkeypatch.setenv("DISTILL_JAX_DATA_DIR", str(SHARED / "datasets"))
    return SHARED / "datasets"


@pytest.fixture
def loopback():
    """Makes servers; all are stopped when the test ends."""
    servers = []

    def make(**options) -> Loopback:
        servers.append(Loopback(**options).__enter__())
        return servers[-1]

    yield make
    for server in servers:
        server.__exit__()


def examples(count: int):
    return [
        Example(f"row-{n}", f"Premise: number {n} of {count}. Hypothesis: yes.", CLASSES[n % 3])
        for n in range(count)
    ]


def make_plan(protocol: str = "chat", sampling: Sampling | None = None, **fields) -> Plan:
    template = load_template("default")
    select = selector([], "fixed")
    sampling = sampling or Sampling()
    return Plan(template, select, "teacher-1", protocol, sampling, classes=CLASSES, **fields)


def annotate(server, store, rows, plan=None, protocol="chat", timeout=5.0, price=None, **limits):
    """One run against a server; the outcome."""

    async def run():
        client = OpenAIClient("teacher-1", server.url, protocol, timeout=timeout)
        made = Limits(**{"first_wait": 0.01, **limits})
        return await Annotator(client, plan or make_plan(protocol), store, made, price).run(rows)

    return asyncio.run(run())


def lines(path) -> list[dict]:
    return [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store.jsonl") as store:
        yield store


def take(iterable, count):
    return list(itertools.islice(iterable, count))
