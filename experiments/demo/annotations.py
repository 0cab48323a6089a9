"""A trained T5 as the teacher: behind the project's own server, asked by the project's own annotator."""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from distill_jax.config import AnnotateConfig, ServeConfig
from distill_jax.data.task import DistillationTask
from distill_jax.decoding.predictor import Predictor
from distill_jax.errors import UserError
from distill_jax.serving.app import Server
from distill_jax.serving.listen import in_background
from distill_jax.teachers.session import Session

BATCH = 64  # concurrent requests, and inputs per batch of the server
TIMEOUT = 300.0  # seconds per request: the first ones wait for compilation


@dataclasses.dataclass(frozen=True)
class Teacher:
    """Where a teacher answers.

    Attributes:
      model: its name, with the checkpoint's step: to a store, another checkpoint is another teacher.
      base_url: of OpenAI's protocol.
    """

    model: str
    base_url: str


@contextlib.contextmanager
def served(run: pathlib.Path) -> Iterator[Teacher]:
    """Serves a run's latest checkpoint on a free port of the loopback while the block runs.

    Raises:
      UserError: when it is no run, or no port is free.
    """
    predictor = Predictor(str(run), batch_size=BATCH)
    name = f"{run.name}-{predictor.step}"
    config = ServeConfig(model_dir=str(run), name=name, max_wait_ms=10.0, timeout=TIMEOUT)
    with in_background(Server(predictor, config)) as address:
        yield Teacher(name, f"{address}/v1")


def annotate(
    teacher: Teacher, task: DistillationTask, ids: Collection[str], store: pathlib.Path, output: pathlib.Path
) -> dict[str, Any]:
    """Asks the teacher for label, rationale and class probabilities of the rows that the store lacks.

    Args:
      teacher: that is served.
      task: of the rows.
      ids: of the rows to annotate.
      store: JSON lines of the completions, added to.
      output: JSON lines for training, replaced.

    Returns:
      See `Figures.summary`; `calls` is the number of requests that the store has paid for in all.

    Raises:
      UserError: when the run was stopped, or rows got no answer; the same call resumes it.
    """
    config = AnnotateConfig(
        source=task.name,
        model=teacher.model,
        base_url=teacher.base_url,
        prompt="student",
        logprobs=len(task.classes or ()) + 1,
        concurrency=BATCH,
        timeout=TIMEOUT,
        store=str(store),
        output=str(output),
    )
    with Session(config, ids=ids) as session:
        outcome = session.ask()
        if outcome.stopped or outcome.failed:
            why = outcome.stopped or f"{outcome.failed} requests got no answer: {outcome.failures[0]}"
            raise UserError(f"{why}; the same command resumes the run")
        return session.deliver().figures | {"calls": int(session.store.spent.requests)}


def read_rows(path: pathlib.Path) -> list[dict[str, Any]]:
    """The rows that `annotate` wrote."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def own_data(
    task: DistillationTask, rows: Collection[Mapping[str, Any]], folder: pathlib.Path, name: str
) -> dict[str, Any]:
    """Annotated rows as data to train on, with the task's own validation and test splits to score on.

    Args:
      task: of the rows.
      rows: of `read_rows`.
      folder: for the files.
      name: of the file, and so of the task that it becomes.

    Returns:
      Options of `TrainConfig` that name these files.
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
    names = ("data", "validation_data", "test_data")
    return dict(zip(names, map(str, (train, *paths.values())), strict=True)) | {"classes": task.classes}
