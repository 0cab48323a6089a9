"""What an HTTP error means for a request: try again, give this row up, or end the run."""

import contextlib
import email.utils
import time
from collections.abc import Mapping

from distill_jax.teachers.messages import TeacherError
from distill_jax.teachers.secrets import redact

_TRANSIENT = (408, 409, 425, 429)
_FATAL = (401, 402, 403, 404, 405)
_NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached")


def status_error(
    status: int, message: str, headers: Mapping[str, str] | None = None, code: str | None = None
) -> TeacherError:
    """The error of a response with this status; `code` is that of OpenAI's error body."""
    no_credit = code in _NO_CREDIT
    return TeacherError(
        one_line(f"HTTP {status}: {message}"),
        transient=(status in _TRANSIENT or status >= 500) and not no_credit,
        retry_after=retry_after(headers or {}),
        fatal=status in _FATAL or no_credit,
    )


def no_answer(timeout: float) -> TeacherError:
    """The error of a request that took longer than `timeout` seconds."""
    return TeacherError(f"no answer within {timeout:g} s", transient=True)


def unknown_error(error: BaseException, what: str = "") -> TeacherError:
    """The error of a failure that may pass: a broken connection, an answer of an unexpected shape."""
    return TeacherError(one_line(f"{what}{type(error).__name__} {error}"), transient=True)


def one_line(message: str) -> str:
    """`message` without API keys and line breaks, 300 characters at most."""
    text = " ".join(redact(message).split())
    return text if len(text) <= 300 else f"{text[:300]}…"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of `Retry-After`: a number or a date (RFC 9110, 10.2.3); or OpenAI's `retry-after-ms`."""
    value = headers.get("retry-after", "")
    with contextlib.suppress(ValueError):
        milliseconds = headers.get("retry-after-ms")
        return max(0.0, float(value) if milliseconds is None else float(milliseconds) / 1000)
    with contextlib.suppress(ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None
