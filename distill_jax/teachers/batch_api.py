"""The batch API: a file of requests that is answered within a day, at half the price where it is offered.

A journal beside the store (`STORE.batches`) notes a batch before it is created: a run that was killed while a
batch was running finds it again instead of paying for a second one.
"""

import itertools
import json
import logging
import os
import pathlib
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import tenacity

from distill_jax.data.schema import Example
from distill_jax.errors import UserError
from distill_jax.teachers.annotator import AnnotationRun, Outcome
from distill_jax.teachers.http_errors import error_message
from distill_jax.teachers.jobs import Job, missing_jobs
from distill_jax.teachers.limits import Spent
from distill_jax.teachers.messages import TeacherError
from distill_jax.teachers.openai_client import OpenAIClient, as_teacher_errors
from distill_jax.teachers.openai_reply import read_reply
from distill_jax.teachers.retrying import with_retries

logger = logging.getLogger(__name__)
_ANSWERS_AT_ONCE = 1000  # appended to the store together
_TIMEOUT = 600.0  # seconds, for the message of an error
_MARK = "distill_jax"  # in a batch's metadata: tells ours from others
_ENDED = ("completed", "expired", "cancelled")
_LARGEST = 150_000_000  # bytes of a file; OpenAI takes 200 MB


class _Stopped(Exception):
    """The run is ending."""


class Journal:
    """The batches that were created and not yet collected; append-only, synced."""

    def __init__(self, path: pathlib.Path):
        self._path = path
        self.open: dict[str, str | None] = {}  # token -> the batch's id, None until it is known
        try:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
            for line in lines:
                if line.endswith("\n"):  # else a kill cut it off before the batch was created
                    self._apply(json.loads(line))
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path}: not a journal of batches: {error}") from None
        if lines and not lines[-1].endswith("\n"):
            os.truncate(path, sum(len(line.encode()) for line in lines[:-1]))

    def _apply(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "collected":
            self.open.pop(event["token"], None)
        else:
            self.open[event["token"]] = event.get("id")

    def write(self, event: str, token: str, **fields: str) -> None:
        """Notes `beginning`, `begun` (with `id`) or `collected`."""
        line = {"event": event, "token": token, **fields}
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._apply(line)


class BatchAnnotator(AnnotationRun):
    """As `annotator.Annotator`, a batch at a time; of the limits the budget and the attempts count.

    Needs an endpoint with `/v1/files` and `/v1/batches`; the price is that of a batch. A batch has at most
    `size` requests, and its state is asked for every `poll` seconds.
    """

    def __init__(self, client: OpenAIClient, *args, size: int = 10_000, poll: float = 60.0, **kwargs):
        super().__init__(client, *args, **kwargs)
        self._size, self._poll = size, poll
        self._journal = Journal(self._beside("batches"))
        self._url = f"/v1{client.path}"
        self._failed: set[str] = set()  # jobs without an answer so far

    def _beside(self, name: str) -> pathlib.Path:
        """A file beside the store."""
        return self._store.path.with_name(f"{self._store.path.name}.{name}")

    async def run(self, rows: Callable[[], Iterable[Example]]) -> Outcome:
        """Collects the batches of earlier runs, then creates batches until nothing is missing.

        Each batch reads `rows` twice, from the beginning.

        Raises:
          UserError: when the store or the journal cannot be written.
        """
        with self._stopped_by_signals("batches go on, and their answers are collected by the next run"):
            try:
                await self._collect_all(rows)
            except _Stopped:
                pass  # the outcome says why
            except TeacherError as error:
                self.outcome.stop(str(error), fatal=True)
            finally:
                await self._client.close()
        if self.budget.exhausted:
            self.outcome.stop(f"the budget of {self.budget.exhausted} is spent")
        return self.outcome

    async def _collect_all(self, rows: Callable[[], Iterable[Example]]) -> None:
        await self._find_begun()
        for token, batch in list(self._journal.open.items()):
            await self._collect(token, batch, rows)
        while not self.outcome.stopped:
            body, reserved = await self._next_file(rows())
            if not body:
                break
            token = uuid.uuid4().hex
            batch = await self._begin(token, body)
            before = self.outcome.answered
            await self._collect(token, batch, rows)
            await self.budget.settle(reserved, Spent())
            if self.outcome.answered == before:
                self.outcome.stop("no request of the last batch was answered", fatal=True)

    async def _call(self, function: Callable, policy: tenacity.AsyncRetrying | None = None) -> Any:
        """An SDK call, with our retries, or those of another policy."""

        async def call():
            if self.outcome.stopped:
                raise _Stopped
            with as_teacher_errors(_TIMEOUT):
                return await function()

        answer, _ = await with_retries(policy or self._policy, call)
        return answer

    async def _find_begun(self) -> None:
        """Learns the ids of batches that were announced in the journal and never confirmed."""
        unknown = {token for token, batch in self._journal.open.items() if batch is None}
        if not unknown:
            return
        page = await self._call(lambda: self._client.sdk.batches.list(limit=100))
        with as_teacher_errors(_TIMEOUT):
            async for batch in page:
                token = (batch.metadata or {}).get(_MARK)
                if token in unknown:
                    self._journal.write("begun", token, id=batch.id)
                    unknown.discard(token)
                if not unknown:
                    break
        for token in unknown:  # the endpoint never got it
            self._journal.write("collected", token)

    async def _next_file(self, rows: Iterable[Example]) -> tuple[bytes, Spent]:
        """The requests of the next batch as JSON lines, and what is reserved for them."""
        lines, size, reserved, names = [], 0, Spent(), set()
        self.budget.exhausted = None
        self.outcome.complete = 0
        for job in missing_jobs(rows, self._plan, self._store):
            if job is None:
                self.outcome.complete += 1
                continue
            if job.name in names:
                continue
            most, request = self._most(job), {"custom_id": job.name, "method": "POST", "url": self._url}
            line = json.dumps(request | {"body": self._client.body(job.request)}).encode() + b"\n"
            if len(lines) == self._size or size + len(line) > _LARGEST:
                break
            if not await self.budget.reserve(most, wait=False):
                break
            names.add(job.name)
            lines.append(line)
            size, reserved = size + len(line), reserved.plus(most)
        return b"".join(lines), reserved

    async def _begin(self, token: str, body: bytes) -> str:
        sdk = self._client.sdk
        file = await self._call(lambda: sdk.files.create(file=("batch.jsonl", body), purpose="batch"))
        self._journal.write("beginning", token)
        # Asked again only where it was refused: if an answer is lost, the next run finds the batch.
        refused = self._policy.copy(retry=tenacity.retry_if_exception(lambda e: getattr(e, "status", 0) == 429))
        details = {"endpoint": self._url, "completion_window": "24h", "metadata": {_MARK: token}}
        batch = await self._call(lambda: sdk.batches.create(input_file_id=file.id, **details), refused)
        self._journal.write("begun", token, id=batch.id)
        return batch.id

    async def _collect(self, token: str, batch_id: str, rows: Callable[[], Iterable[Example]]) -> None:
        """Waits for a batch and stores its answers."""
        while True:
            batch = await self._call(lambda: self._client.sdk.batches.retrieve(batch_id))
            if batch.status in _ENDED:
                break
            if batch.status == "failed":
                self._journal.write("collected", token)
                errors = batch.errors.data if batch.errors and batch.errors.data else []
                why = "; ".join(str(error.message) for error in errors[:3]) or "no reason given"
                raise TeacherError(f"batch {batch_id} failed: {why}", fatal=True)
            logger.info("batch %s: %s", batch_id, batch.status)
            await self._pause.sleep(self._poll)
            if self.outcome.stopped:
                raise _Stopped
        answers: dict[str, Mapping[str, Any]] = {}
        for file in (batch.output_file_id, batch.error_file_id):
            if file:
                content = await self._call(lambda file=file: self._client.sdk.files.content(file))
                answers |= _by_id(content.text, batch_id)
        await self._store_answers(answers, rows())
        if answers:
            kept = self._beside(f"{batch_id}.jsonl")
            kept.write_text("".join(json.dumps(answer) + "\n" for answer in answers.values()))
            logger.warning(
                "batch %s: %d answers are of no row of this run: kept in %s", batch_id, len(answers), kept
            )
        self._journal.write("collected", token)
        self._progress(self.outcome)

    async def _store_answers(self, answers: dict[str, Mapping[str, Any]], rows: Iterable[Example]) -> None:
        """Stores the answers to the missing requests of `rows`; takes these out of `answers`."""
        jobs = missing_jobs(rows, self._plan, self._store)
        pairs = ((job, answers.pop(job.name)) for job in jobs if job and job.name in answers)
        while part := list(itertools.islice(pairs, _ANSWERS_AT_ONCE)):
            if lines := [line for pair in part for line in await self._read(*pair)]:
                await self._store.append(lines)

    async def _read(self, job: Job, answer: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The store's lines of an answer; none for an error, which is counted."""
        response = answer.get("response")
        response = response if isinstance(response, Mapping) else {}
        self.outcome.asked += job.name not in self._failed
        body, status = response.get("body", response), response.get("status_code")
        try:
            if not body or str(status or 200)[:1] != "2":
                message = error_message(answer.get("error")) or error_message(body)
                raise TeacherError(
                    f"{f'HTTP {status}' if status else 'no response'}: {message or 'no message'}"
                )
            reply = read_reply(body)
        except TeacherError as error:
            if job.name not in self._failed:
                self.outcome.fail(job, error)
            self._failed.add(job.name)
            return []
        if job.name in self._failed:  # an earlier batch had no answer
            self._failed.discard(job.name)
            self.outcome.failed -= 1
        used = self._used(job, reply, self._most(job))
        await self.budget.settle(Spent(), used)
        return self._records(job, reply, used, 1, 0.0)


def _by_id(text: str, batch_id: str) -> dict[str, Mapping[str, Any]]:
    """The answers in a batch's file by their `custom_id`; a line that is none is told, and left out."""
    answers, broken = {}, 0
    for line in text.lstrip("\ufeff").split("\n"):  # `splitlines` would cut a line at a U+2028 in it
        if not line.strip():
            continue
        try:
            answer = json.loads(line)
            answers[str(answer["custom_id"])] = answer
        except (ValueError, TypeError, KeyError, RecursionError):
            broken += 1
    if broken:
        logger.warning("batch %s: %d lines are no answers: their rows are asked for again", batch_id, broken)
    return answers
