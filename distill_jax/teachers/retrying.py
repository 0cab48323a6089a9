"""Asks again after transient errors: rate limits, server errors, time-outs, cut connections, broken answers."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import tenacity

from distill_jax.teachers.limits import Pause
from distill_jax.teachers.messages import TeacherError

logger = logging.getLogger(__name__)
Answered = TypeVar("Answered")
LONGEST_WAIT = 60.0  # seconds of backoff; Retry-After may be longer


def retrying(attempts: int, pause: Pause, first_wait: float = 0.5) -> tenacity.AsyncRetrying:
    """A policy: exponential backoff with full jitter, or at least as long as `Retry-After` says.

    `Retry-After` extends `pause`, so that the other calls wait too; when it ends, so do the waits. `first_wait`
    is the most seconds before the second of `attempts`; it doubles for each further one.
    """
    backoff = tenacity.wait_random_exponential(multiplier=first_wait, max=LONGEST_WAIT)

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception()
        if (asked := error.retry_after) is None:
            return backoff(state)
        pause.extend(asked, str(error))
        return asked + backoff(state) / 10  # spread over time

    def tell(state: tenacity.RetryCallState) -> None:
        error, seconds = state.outcome.exception(), state.next_action.sleep
        logger.info("attempt %d: %s; again in %.1f s", state.attempt_number, error, seconds)

    return tenacity.AsyncRetrying(
        stop=tenacity.stop_after_attempt(attempts),
        wait=wait,
        sleep=pause.sleep,
        retry=tenacity.retry_if_exception(lambda e: isinstance(e, TeacherError) and e.transient),
        before_sleep=tell,
        reraise=True,
    )


async def with_retries(
    policy: tenacity.AsyncRetrying, call: Callable[[], Awaitable[Answered]]
) -> tuple[Answered, int]:
    """(what `call` returned, attempts it took); raises the last TeacherError."""
    async for attempt in policy.copy():
        with attempt:
            answered = await call()
    return answered, attempt.retry_state.attempt_number
