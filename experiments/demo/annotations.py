"""A trained T5 as the teacher: behind the project's own server, asked by the project's own annotator."""

import asyncio
import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from distill_jax.tasks import own
from distill_jax.tasks.registry import DistillationTask

from distill_jax.decoding.predictor import Predictor
from distill_jax.errors import UserError
from distill_jax.serving.app import Server
from distill_jax.serving.listen import in_background
from distill_jax.teachers import export
from distill_jax.teachers.annotate import Annotator, Limits
from distill_jax.teachers.demonstrations import selector
from distill_jax.teachers.jobs import Plan
from distill_jax.teachers.openai_client import OpenAIClient
from distill_jax.teachers.prompts import load_template
from distill_jax.teachers.protocol import Sampling
from distill_jax.teachers.rows import Rows, chosen
from distill_jax.teachers.store import Store

BATCH = 64  # rows that are asked for at a time, and that the server works off together
TIMEOUT = 300.0  # seconds of a request: the first ones wait for the compiler


@dataclasses.dataclass(frozen=True)
class Teacher:
    """Where a teacher answers.

    Attributes:
      model: its name there, with the checkpoint's step: another checkpoint is another teacher to a store.
      base_url: of OpenAI's protocol.
    """

    model: str
    base_url: str


@contextlib.contextmanager
def served(run: pathlib.Path) -> Iterator[Teacher]:
    """Serves a run's latest checkpoint on a free port of the loopback while the block runs.

    Raises:
      UserError: when it is no run, or there is no port to be had.
    """
    predictor = Predictor(str(run), batch_size=BATCH)
    name = f"{run.name}-{predictor.step}"
    with in_background(Server(predictor, name, max_wait=0.01, timeout=TIMEOUT)) as address:
        yield Teacher(name, f"{address}/v1")


def annotate(
    teacher: Teacher, rows: Rows, ids: Collection[str], store: pathlib.Path, output: pathlib.Path
) -> dict[str, Any]:
    """Asks the teacher for the label, the reason and the class probabilities of what the store has not.

    Args:
      teacher: that is served.
      rows: of the task.
      ids: of the rows to annotate.
      store: JSON lines of the completions, added to.
      output: JSON lines for training, written anew.

    Returns:
      The figures of `export.Figures.summary`, and `calls`: requests that the store has paid for in all.

    Raises:
      UserError: when the run was stopped, or rows got no answer; the same call goes on from there.
    """
    client = OpenAIClient(teacher.model, teacher.base_url, timeout=TIMEOUT)
    plan = Plan(
        load_template("student"),
        selector([], "fixed"),
        teacher.model,
        client.protocol,
        Sampling(logprobs=len(rows.classes or ()) + 1),
        classes=rows.classes,
    )
    with Store(store) as kept:
        limits = Limits(concurrency=BATCH)
        outcome = asyncio.run(Annotator(client, plan, kept, limits).run(chosen(rows.examples, ids)))
        if outcome.stopped or outcome.failed:
            why = outcome.stopped or f"{outcome.failed} requests got no answer: {outcome.failures[0]}"
            raise UserError(f"{why}; the same command goes on from here")

        def completions(example):
            return kept.read(example.id, plan.key(example, plan.prompt(example)).setting)

        figures = export.Figures(rows)
        judged = export.verdicts(rows, chosen(rows.examples, ids), completions, plan.template)
        export.write_rows(output, judged, figures)
        return figures.summary() | {"calls": int(kept.spent.requests)}


def read_rows(path: pathlib.Path) -> list[dict[str, Any]]:
    """What `annotate` wrote."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def own_data(
    task: DistillationTask, rows: Collection[Mapping[str, Any]], folder: pathlib.Path, name: str
) -> dict[str, Any]:
    """Annotated rows as data to train on, with the task's own validation and test splits to score on.

    Args:
      task: the rows are of.
      rows: of `read_rows`.
      folder: for the files.
      name: of the file, and so of the task that it becomes.

    Returns:
      A description, see `data.own.describe`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {split: folder / f"{split}.jsonl" for split in ("validation", "test")}
    content = {
        path: [
            {"id": example.id, "input": example.input, "label": example.label}
            for example in task.source.examples(split)
        ]
        for split, path in paths.items()
        if not path.exists()
    }
    train = folder / f"{name}.jsonl"
    for path, lines in (content | {train: rows}).items():
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return own.describe(str(train), *map(str, paths.values()), classes=list(task.classes))
