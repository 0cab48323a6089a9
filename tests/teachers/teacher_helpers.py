"""What several tests of the teacher use; `conftest` puts this folder on the path."""

import asyncio
import json
import pathlib

from loopback_teacher import CLASSES

from distill_jax.config.annotation import LimitOptions
from distill_jax.data.schema import Example
from distill_jax.teachers.annotator import Annotator
from distill_jax.teachers.demonstrations import selector
from distill_jax.teachers.jobs import AnnotationPlan
from distill_jax.teachers.messages import Sampling
from distill_jax.teachers.openai_client import OpenAIClient
from distill_jax.teachers.prompts import load_template

KEY = "planted-key-0123456789"


def examples(count: int):
    return [
        Example(f"row-{n}", f"Premise: number {n} of {count}. Hypothesis: yes.", CLASSES[n % 3])
        for n in range(count)
    ]


def make_plan(protocol: str = "chat", sampling: Sampling | None = None, **fields) -> AnnotationPlan:
    template = load_template("default")
    select = selector([], "fixed")
    sampling = sampling or Sampling()
    return AnnotationPlan(template, select, "teacher-1", protocol, sampling, classes=CLASSES, **fields)


def annotate(server, store, rows, plan=None, protocol="chat", timeout=5.0, price=None, **limits):
    """One run against a server; the outcome."""

    async def run():
        client = OpenAIClient("teacher-1", server.url, protocol, timeout=timeout)
        made = LimitOptions(**{"first_wait": 0.01, **limits})
        return await Annotator(client, plan or make_plan(protocol), store, made, price).run(rows)

    return asyncio.run(run())


def lines(path) -> list[dict]:
    return [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]
