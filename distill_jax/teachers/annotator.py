"""The loop: asks the teacher for every sample that the store has not, within limits and budget."""

import asyncio
import contextlib
import dataclasses
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable

from distill_jax.data.schema import Example
from distill_jax.errors import UserError
from distill_jax.teachers.jobs import Job, AnnotationPlan, missing_jobs
from distill_jax.teachers.limits import Budget, Pace, Pause, Price, Spent, TokenEstimate
from distill_jax.teachers.messages import Client, Reply, TeacherError
from distill_jax.teachers.records import cost, records
from distill_jax.teachers.retrying import retrying, with_retries
from distill_jax.teachers.store import Store

logger = logging.getLogger(__name__)
_LET_OTHERS = 50  # rows looked up between two chances for the answers under way


@dataclasses.dataclass
class Outcome:
    """What a run did.

    Attributes:
      there: rows that needed nothing.
      asked: requests that were answered.
      stored: completions added to the store.
      failed: requests given up.
      failures: the first few of them, with the reason.
      stopped: why it ended before the last row; "" where it did not.
    """

    there: int = 0
    asked: int = 0
    stored: int = 0
    failed: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)
    stopped: str = ""
    fatal: bool = False


class _NotAsked(Exception):
    """The run is ending."""


class Annotator:
    """One run; `run` is called once.

    Args:
      client: the teacher.
      plan: what is asked.
      store: of the completions; the caller closes it.
      limits: see `Limits`.
      price: of the teacher; None where it is not known.
      progress: called with the outcome so far after every answer.
    """

    def __init__(
        self,
        client: Client,
        plan: AnnotationPlan,
        store: Store,
        limits: Limits,
        price: Price | None = None,
        progress: Callable[[Outcome], None] | None = None,
    ):
        self._client, self._plan, self._store, self._limits, self._price = client, plan, store, limits, price
        self._progress = progress or (lambda outcome: None)
        self.outcome = Outcome()
        self.budget = Budget(limits.budget, store.spent)
        self._requests, self._tokens = Pace(limits.requests_per_minute), Pace(limits.tokens_per_minute)
        self._estimate, self._pause = TokenEstimate(), Pause()
        self._policy = retrying(limits.attempts, self._pause, limits.first_wait)
        self._running: set[tuple] = set()
        self._turn = asyncio.Lock()
        self._failing = 0
        self._broken: UserError | None = None

    async def run(self, rows: Iterable[Example]) -> Outcome:
        """Asks for all rows; ends early, and cleanly, by budget, a fatal error, SIGINT or SIGTERM.

        Raises:
          UserError: for a row that cannot be read, and when the store cannot be written; what was
            written stays.
        """
        jobs = self._jobs(rows)
        with self._stopped_by_signals():
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(self._limits.concurrency):
                        group.create_task(self._work(jobs))
            except* UserError as errors:
                raise errors.exceptions[0] from None
            finally:
                await self._client.close()
        if self._broken is not None:
            raise self._broken
        return self.outcome

    @contextlib.contextmanager
    def _stopped_by_signals(self):
        """The first signal ends the run after the requests under way, which are paid for; a second at once."""
        loop, signals = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)

        def stop(number: int) -> None:
            self._stop(f"stopped by {signal.Signals(number).name}; the answers under way are stored")
            loop.remove_signal_handler(number)

        set_up = []
        with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread: the caller has them
            for number in signals:
                loop.add_signal_handler(number, stop, number)
                set_up.append(number)
        try:
            yield
        finally:
            for number in set_up:
                loop.remove_signal_handler(number)

    def _stop(self, why: str, fatal: bool = False) -> None:
        if not self.outcome.stopped:
            self.outcome.stopped, self.outcome.fatal = why, fatal

    async def _jobs(self, rows: Iterable[Example]) -> AsyncIterator[Job]:
        for number, job in enumerate(missing_jobs(rows, self._plan, self._store)):
            if number % _LET_OTHERS == 0:
                await asyncio.sleep(0)
            if job is None:
                self.outcome.there += 1
            elif _name(job) not in self._running:  # the same row twice in the source
                yield job

    async def _work(self, jobs: AsyncIterator[Job]) -> None:
        while not self.outcome.stopped:
            async with self._turn:
                try:
                    job = await anext(jobs, None)
                except UserError as error:  # a row that cannot be read: the answers under way still count
                    self._broken = error
                    self._stop(str(error))
                    return
                if job is None or self.outcome.stopped:
                    return
                self._running.add(_name(job))
            try:
                await self._do(job)
            finally:
                self._running.discard(_name(job))

    async def _do(self, job: Job) -> None:
        start = time.monotonic()
        try:
            reply, attempts = await with_retries(self._policy, lambda: self._ask(job))
        except _NotAsked:
            return
        except TeacherError as error:
            self._count_failure(job, error)
            return
        self._failing = 0
        seconds = time.monotonic() - start
        lines = records(job, reply, self._plan, self._client.endpoint, self._price, attempts, seconds)
        await self._store.append(lines)
        self.outcome.asked += 1
        self.outcome.stored += len(lines)
        self._progress(self.outcome)
        if len(lines) < len(job.request.samples):  # an endpoint that knows no `n`
            rest = dataclasses.replace(job.request, samples=job.request.samples[len(lines) :])
            await self._do(Job(job.key, rest))

    async def _ask(self, job: Job) -> Reply:
        """One attempt, when budget and pace allow."""
        size, samples = job.request.prompt.size(), len(job.request.samples)
        asked = self._estimate.prompt(size)
        answered = self._plan.sampling.max_tokens * samples
        most = Spent(1, asked + answered, self._price.of(asked, answered) if self._price else 0.0)
        if self.outcome.stopped:
            raise _NotAsked
        if not await self.budget.reserve(most):
            self._stop(f"the budget of {self.budget.exhausted} is spent")
            raise _NotAsked
        actual = Spent()
        try:
            await self._requests.take()
            await self._tokens.take(asked + answered)
            await self._pause.over()
            if self.outcome.stopped:
                raise _NotAsked
            actual = Spent(1)
            reply = await self._client.complete(job.request)
            used = asked + answered
            if reply.prompt_tokens is not None and reply.completion_tokens is not None:
                self._estimate.learn(size, reply.prompt_tokens)
                used = reply.prompt_tokens + reply.completion_tokens
                self._tokens.correct(used - asked - answered)
            usd = cost(reply, self._price)
            actual = Spent(1, used, most.usd if usd is None else usd)
            return reply
        finally:
            await self.budget.settle(most, actual)

    def _count_failure(self, job: Job, error: TeacherError) -> None:
        self.outcome.failed += 1
        self._failing += 1
        if len(self.outcome.failures) < 5:
            self.outcome.failures.append(f"row {job.key.row_id}: {error}")
        logger.info("row %s: %s", job.key.row_id, error)
        if error.fatal:
            self._stop(str(error), fatal=True)
        elif self._failing >= self._limits.failures_in_a_row:
            self._stop(f"{self._failing} requests in a row failed, the last with: {error}", fatal=True)


def _name(job: Job) -> tuple:
    return job.key.row, job.key.setting, job.request.samples
