"""The loop: asks the teacher for every sample that the store lacks, within limits and budget."""

import asyncio
import collections
import contextlib
import dataclasses
import itertools
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

from distill_jax.config.annotation import LimitOptions
from distill_jax.data.schema import Example
from distill_jax.errors import UserError
from distill_jax.teachers.jobs import AnnotationPlan, Job, missing_jobs
from distill_jax.teachers.label_probs import LabelProbs
from distill_jax.teachers.limits import Budget, CutPrompts, Pace, Pause, Spent, TokenEstimate
from distill_jax.teachers.messages import Client, Reply, TeacherError
from distill_jax.teachers.prices import Price
from distill_jax.teachers.records import paid, records
from distill_jax.teachers.retrying import retrying, with_retries
from distill_jax.teachers.store import Store
from distill_jax.teachers.window import FIRST, Window

logger = logging.getLogger(__name__)
_LET_OTHERS = 50  # rows looked up between two chances for the running requests
_FAILURES_SHOWN = 5
_FAILURES_IN_A_ROW = 20  # end a run
_FIRST_FAILURES = 3  # end it too, where no request was answered and asking again would not help
_HEAD_START = 5.0  # seconds in which the first request is alone: a wrong key is asked about once


@dataclasses.dataclass
class Outcome:
    """What a run did."""

    complete: int = 0  # rows that needed nothing: the store had all their samples
    asked: int = 0  # requests
    answered: int = 0  # of these
    stored: int = 0  # completions added to the store
    failed: int = 0  # requests without an answer after all attempts
    timed_out: int = 0  # attempts without an answer in time
    busy: int = 0  # attempts that the endpoint refused for now: too many requests, or too much to do
    at_a_time: int = 0  # requests that may be under way at a time, as the answers so far allow
    with_probs: int = 0  # stored completions that give `label_probs`
    troubles: collections.Counter = dataclasses.field(
        default_factory=collections.Counter
    )  # see `Answer.trouble`
    failures: list[str] = dataclasses.field(default_factory=list)  # the first few of them, with the reason
    stopped: str = ""  # why it ended before the last row; "" where it did not
    fatal: bool = False  # whether it stopped on an error, not by a budget or a signal

    def stop(self, why: str, fatal: bool = False) -> None:
        """Ends the run; the first reason counts."""
        if not self.stopped:
            self.stopped, self.fatal = why, fatal

    def fail(self, job: Job, error: TeacherError) -> None:
        """Counts a request without an answer."""
        self.failed += 1
        if len(self.failures) < _FAILURES_SHOWN:
            self.failures.append(f"row {job.key.row_id}: {error}")
        logger.info("row %s: %s", job.key.row_id, error)


class AnnotationRun:
    """What a run needs, whichever way it asks; `run` is called once, and the caller closes the store.

    `price` is None where it is not known; `progress` is called with the outcome so far after every answer.
    """

    def __init__(
        self,
        client: Client,
        plan: AnnotationPlan,
        store: Store,
        limits: LimitOptions,
        price: Price | None = None,
        progress: Callable[[Outcome], None] | None = None,
    ):
        self._client, self._plan, self._store, self._limits, self._price = client, plan, store, limits, price
        self._progress = progress or (lambda outcome: None)
        self.outcome = Outcome()
        budget = Spent(limits.budget_requests, limits.budget_tokens, limits.budget_usd)
        self.budget = Budget(budget, store.spent)
        self._estimate, self._pause = TokenEstimate(), Pause(limits.max_wait, self._stop)
        self._cutting, self._probs = CutPrompts(), LabelProbs(plan)
        self._policy = retrying(limits.attempts, self._pause, limits.first_wait)

    def _stop(self, why: str, fatal: bool = False) -> None:
        """Ends the run, and all its waits."""
        self.outcome.stop(why, fatal)
        self._pause.end()

    @contextlib.contextmanager
    def _stopped_by_signals(self, then: str):
        """The first signal ends the run, and its waits; a second at once. `then` tells what becomes of it."""
        loop, signals = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)

        def stop(number: int) -> None:
            self._stop(f"stopped by {signal.Signals(number).name}; {then}")
            loop.remove_signal_handler(number)

        handled = []
        with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread: the caller has them
            for number in signals:
                loop.add_signal_handler(number, stop, number)
                handled.append(number)
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)

    def _most(self, job: Job) -> Spent:
        """What a request can cost at most."""
        answer_tokens = self._plan.sampling.max_tokens * len(job.request.samples)
        return self._estimate.at_most(job.request.prompt.size(), answer_tokens, self._price)

    def _used(self, job: Job, reply: Reply, most: Spent) -> Spent:
        """What a reply cost: as the endpoint reports it, else the most that it can have cost."""
        prompt_tokens, completion_tokens = reply.prompt_tokens, reply.completion_tokens
        if prompt_tokens is None or completion_tokens is None:
            return most
        self._estimate.learn(job.request.prompt.size(), prompt_tokens)
        self._cutting.look(job.request.prompt.size(), prompt_tokens)
        usd = self._price.of(prompt_tokens, completion_tokens) if self._price else 0.0
        return Spent(1, prompt_tokens + completion_tokens, usd)

    def _records(self, job: Job, reply: Reply, used: Spent, attempts: int, seconds: float) -> list[dict]:
        """The store's lines for a reply; counts them."""
        cost = paid(reply, used, self._price is not None, attempts)
        lines = records(job, reply, self._plan, self._client.endpoint, cost, seconds)
        self.outcome.answered += 1
        self.outcome.stored += len(lines)
        self._probs.look(job.request.example, reply.answers, lines)
        self.outcome.with_probs = self._probs.found
        self.outcome.troubles.update(filter(None, (answer.trouble for answer in reply.answers[: len(lines)])))
        return lines


class _NotAsked(Exception):
    """The run is ending."""


class Annotator(AnnotationRun):
    """Asks with up to `limits.concurrency` requests at a time, as many as the server keeps up with."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._requests = Pace(self._limits.requests_per_minute, self._pause.sleep)
        self._tokens = Pace(self._limits.tokens_per_minute, self._pause.sleep)
        most = self._limits.concurrency
        self._window = Window(most, self._limits.timeout, most if self._client.batches else FIRST)
        self._running: set[str] = set()
        self._turn, self._begun = asyncio.Lock(), asyncio.Event()
        self._failing = 0
        self._broken: UserError | None = None

    async def run(self, rows: Iterable[Example]) -> Outcome:
        """Asks for all rows; ends early, and cleanly, by budget, a fatal error, SIGINT or SIGTERM.

        Raises:
          UserError: for a row that cannot be read, or a store that cannot be written; what was written stays.
        """
        jobs = self._jobs(rows)
        with self._stopped_by_signals("answers to running requests are stored"):  # these are paid for
            try:
                async with asyncio.TaskGroup() as group:
                    for number in range(self._limits.concurrency):
                        group.create_task(self._work(jobs, number))
            except* UserError as errors:
                raise errors.exceptions[0] from None
            finally:
                await self._client.close()
        if self._broken is not None:
            raise self._broken
        return self.outcome

    async def _jobs(self, rows: Iterable[Example]) -> AsyncIterator[Job]:
        for number, job in enumerate(missing_jobs(rows, self._plan, self._store)):
            if number % _LET_OTHERS == 0:
                await asyncio.sleep(0)
            if job is None:
                self.outcome.complete += 1
            elif job.name not in self._running:  # the same row twice in the source
                yield job

    async def _work(self, jobs: AsyncIterator[Job], number: int) -> None:
        """One of the requests at a time; all but the first few wait until one of these was answered."""
        if number:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_HEAD_START if number < _FIRST_FAILURES else None):
                    await self._begun.wait()
        try:
            await self._ask_all(jobs)
        finally:
            self._begun.set()

    async def _ask_all(self, jobs: AsyncIterator[Job]) -> None:
        while not self.outcome.stopped:
            async with self._turn:
                try:
                    job = await anext(jobs, None)
                except UserError as error:  # a row that cannot be read: running requests still count
                    self._broken = error
                    self._stop(str(error))
                    return
                if job is None or self.outcome.stopped:
                    return
                self._running.add(job.name)
            try:
                await self._do(job)
            finally:
                self._running.discard(job.name)

    async def _do(self, job: Job) -> None:
        start, attempt = time.monotonic(), itertools.count(1)
        try:
            (reply, used), attempts = await with_retries(self._policy, lambda: self._ask(job, attempt))
        except _NotAsked:
            return
        except TeacherError as error:
            self._count_failure(job, error)
            return
        self._failing = 0
        self._begun.set()
        lines = self._records(job, reply, used, attempts, time.monotonic() - start)
        await self._store.append(lines)
        self._progress(self.outcome)
        if len(lines) < len(job.request.samples):  # an endpoint that does not support `n`
            rest = dataclasses.replace(job.request, samples=job.request.samples[len(lines) :])
            await self._do(Job(job.key, rest))

    async def _ask(self, job: Job, attempt: Iterator[int]) -> tuple[Reply, Spent]:
        """The next attempt, when budget, window and pace allow; the reply and what it cost."""
        most, used = self._most(job), Spent()
        if self.outcome.stopped:
            raise _NotAsked
        if not await self.budget.reserve(most):
            self._stop(f"the budget of {self.budget.exhausted} is spent")
            raise _NotAsked
        try:
            async with self._window.place():
                await self._requests.take()
                await self._tokens.take(most.tokens)
                await self._pause.over()
                if self.outcome.stopped:
                    raise _NotAsked
                self.outcome.asked += next(attempt) == 1
                used = Spent(1)
                reply = await self._window.watch(lambda: self._client.complete(job.request))
            used = self._used(job, reply, most)
            self._tokens.correct(used.tokens - most.tokens)
            return reply, used
        except TeacherError as error:
            self.outcome.timed_out += error.timed_out
            self.outcome.busy += error.overloaded and not error.timed_out
            raise
        finally:
            self.outcome.at_a_time = self._window.limit
            await self.budget.settle(most, used)

    def _count_failure(self, job: Job, error: TeacherError) -> None:
        self.outcome.fail(job, error)
        self._failing += 1
        if error.fatal:
            self._stop(str(error), fatal=True)
        elif not (error.transient or self.outcome.answered) and self._failing >= _FIRST_FAILURES:
            self._stop(f"the first {self._failing} requests failed, the last with: {error}", fatal=True)
        elif self._failing >= _FAILURES_IN_A_ROW:
            self._stop(f"{self._failing} requests in a row failed, the last with: {error}", fatal=True)
