"""The batch API: a file of requests that is answered within a day, for half the price where it is offered.

A journal beside the store (`STORE.batches`) says which batches were begun, before they are, so that a run
that was killed while a batch was under way finds it again instead of paying for a second one.
"""

import asyncio
import json
import logging
import os
import pathlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from distill_jax.data.schema import Example
from distill_jax.errors import UserError
from distill_jax.teachers.annotator import Limits, Outcome
from distill_jax.teachers.jobs import Job, AnnotationPlan, missing_jobs
from distill_jax.teachers.limits import Budget, Pause, Price, Spent, TokenEstimate
from distill_jax.teachers.openai_client import OpenAIClient, as_teacher_errors, read_reply
from distill_jax.teachers.messages import TeacherError
from distill_jax.teachers.records import cost, records
from distill_jax.teachers.retrying import retrying, with_retries
from distill_jax.teachers.store import Store

logger = logging.getLogger(__name__)
_MARK = "distill_jax"  # in a batch's metadata: tells ours from others
_ENDED = ("completed", "expired", "cancelled")
_LARGEST = 150_000_000  # bytes of a file; OpenAI takes 200 MB


class Journal:
    """The batches that were begun and have not been collected; append-only, synced."""

    def __init__(self, path: pathlib.Path):
        self._path = path
        self.open: dict[str, str | None] = {}  # token -> the batch's id, None until it is known
        try:
            lines = path.read_text().splitlines(keepends=True) if path.exists() else []
            for line in lines:
                if line.endswith("\n"):  # else a kill cut it off before the request it announces
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


class BatchAnnotator:
    """As `annotator.Annotator`, a batch at a time.

    Args:
      client: of an endpoint with `/v1/files` and `/v1/batches`.
      plan: what is asked.
      store: of the completions.
      limits: of these the budget and the attempts.
      price: of a batch.
      size: requests in a batch at most.
      poll: seconds between looks at a batch.
      progress: called with the outcome after each batch.
    """

    def __init__(
        self,
        client: OpenAIClient,
        plan: AnnotationPlan,
        store: Store,
        limits: Limits,
        price: Price | None = None,
        size: int = 10_000,
        poll: float = 60.0,
        progress: Callable[[Outcome], None] | None = None,
    ):
        self._client, self._plan, self._store, self._limits, self._price = client, plan, store, limits, price
        self._size, self._poll, self._progress = size, poll, progress or (lambda outcome: None)
        self._policy = retrying(limits.attempts, Pause(), limits.first_wait)
        self._estimate = TokenEstimate()
        self._journal = Journal(store.path.with_name(f"{store.path.name}.batches"))
        self.outcome = Outcome()
        self.budget = Budget(limits.budget, store.spent)

    async def run(self, rows: Callable[[], Iterable[Example]]) -> Outcome:
        """Collects what was begun before, then begins batches until nothing is missing.

        Args:
          rows: begins the stream anew: each batch goes through it twice.

        Raises:
          UserError: when the store or the journal cannot be written.
        """
        try:
            await self._find_begun()
            for token, batch in list(self._journal.open.items()):
                await self._collect(token, batch, rows)
            while not self.outcome.stopped:
                body, reserved = await self._next_file(rows())
                if not body:
                    break
                token = uuid.uuid4().hex
                batch = await self._begin(token, body)
                before = self.outcome.asked
                await self._collect(token, batch, rows)
                await self.budget.settle(reserved, Spent())
                if self.outcome.asked == before:
                    self.outcome.stopped, self.outcome.fatal = "no request of the last batch was answered", True
        except TeacherError as error:
            self.outcome.stopped, self.outcome.fatal = str(error), True
        finally:
            await self._client.close()
        if not self.outcome.stopped and self.budget.exhausted:
            self.outcome.stopped = f"the budget of {self.budget.exhausted} is spent"
        return self.outcome

    async def _call(self, function: Callable) -> Any:
        """An SDK call, with our retries."""

        async def call():
            with as_teacher_errors(600.0):
                return await function()

        answer, _ = await with_retries(self._policy, call)
        return answer

    async def _find_begun(self) -> None:
        """Learns the ids of batches whose beginning was announced, and never confirmed."""
        unknown = {token for token, batch in self._journal.open.items() if batch is None}
        if not unknown:
            return
        page = await self._call(lambda: self._client.sdk.batches.list(limit=100))
        with as_teacher_errors(600.0):
            async for batch in page:
                token = (batch.metadata or {}).get(_MARK)
                if token in unknown:
                    self._journal.write("begun", token, id=batch.id)
                    unknown.discard(token)
                if not unknown:
                    break
        for token in unknown:  # announced, but the endpoint never got it
            self._journal.write("collected", token)

    async def _next_file(self, rows: Iterable[Example]) -> tuple[bytes, Spent]:
        """The requests of the next batch as JSON lines, and what is reserved for them."""
        url = "/v1/chat/completions" if self._client.protocol == "chat" else "/v1/completions"
        lines, size, reserved, names = [], 0, Spent(), set()
        self.budget.exhausted = None
        self.outcome.there = 0
        for job in missing_jobs(rows, self._plan, self._store):
            if job is None:
                self.outcome.there += 1
                continue
            if (name := _name(job)) in names:
                continue
            asked = self._estimate.prompt(job.request.prompt.size())
            answered = self._plan.sampling.max_tokens * len(job.request.samples)
            most = Spent(1, asked + answered, self._price.of(asked, answered) if self._price else 0.0)
            body = {"custom_id": name, "method": "POST", "url": url, "body": self._client.body(job.request)}
            line = json.dumps(body).encode() + b"\n"
            if len(lines) == self._size or size + len(line) > _LARGEST:
                break
            if not await self.budget.reserve(most, wait=False):
                break
            names.add(name)
            lines.append(line)
            size, reserved = size + len(line), reserved.plus(most)
        return b"".join(lines), reserved

    async def _begin(self, token: str, body: bytes) -> str:
        sdk = self._client.sdk
        file = await self._call(lambda: sdk.files.create(file=("batch.jsonl", body), purpose="batch"))
        self._journal.write("beginning", token)
        url = "/v1/chat/completions" if self._client.protocol == "chat" else "/v1/completions"
        with as_teacher_errors(600.0):  # once: whether a lost answer began one is for the next run to see
            batch = await sdk.batches.create(
                input_file_id=file.id, endpoint=url, completion_window="24h", metadata={_MARK: token}
            )
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
                told = batch.errors.data if batch.errors and batch.errors.data else []
                why = "; ".join(str(error.message) for error in told[:3]) or "no reason given"
                raise TeacherError(f"batch {batch_id} failed: {why}", fatal=True)
            logger.info("batch %s: %s", batch_id, batch.status)
            await asyncio.sleep(self._poll)
        answers: dict[str, Mapping[str, Any]] = {}
        for file in (batch.output_file_id, batch.error_file_id):
            if file:
                content = await self._call(lambda file=file: self._client.sdk.files.content(file))
                answers |= {answer["custom_id"]: answer for answer in _json_lines(content.text)}
        waiting = []
        for job in missing_jobs(rows(), self._plan, self._store):
            answer = answers.pop(_name(job), None) if job else None
            if answer is not None:
                waiting += await self._read(job, answer)
            if len(waiting) >= 1000:
                await self._store.append(waiting)
                waiting = []
        if waiting:
            await self._store.append(waiting)
        if answers:
            kept = self._store.path.with_name(f"{self._store.path.name}.{batch_id}.jsonl")
            kept.write_text("".join(json.dumps(answer) + "\n" for answer in answers.values()))
            logger.warning(
                "batch %s: %d answers are of no row of this run: kept in %s", batch_id, len(answers), kept
            )
        self._journal.write("collected", token)
        self._progress(self.outcome)

    async def _read(self, job: Job, answer: Mapping[str, Any]) -> list[dict[str, Any]]:
        response = answer.get("response") or {}
        try:
            if response.get("status_code") != 200:
                error = answer.get("error") or (response.get("body") or {}).get("error") or {}
                raise TeacherError(f"HTTP {response.get('status_code')}: {error.get('message', 'no message')}")
            reply = read_reply(response["body"], self._client.protocol)
        except TeacherError as error:
            self.outcome.failed += 1
            if len(self.outcome.failures) < 5:
                self.outcome.failures.append(f"row {job.key.row_id}: {error}")
            return []
        if reply.prompt_tokens is not None:
            self._estimate.learn(job.request.prompt.size(), reply.prompt_tokens)
        tokens = (reply.prompt_tokens or 0) + (reply.completion_tokens or 0)
        await self.budget.settle(Spent(), Spent(1, tokens, cost(reply, self._price) or 0.0))
        lines = records(job, reply, self._plan, self._client.endpoint, self._price, 1, 0.0)
        self.outcome.asked += 1
        self.outcome.stored += len(lines)
        return lines


def _json_lines(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        if line.strip():
            yield json.loads(line)


def _name(job: Job) -> str:
    """`custom_id` of a request: the same for the same samples of the same row and setting."""
    samples = job.request.samples
    return f"{job.key.row.hex()}-{job.key.setting.hex()}-{samples[0]}-{len(samples)}"
