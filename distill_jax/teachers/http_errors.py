"""What an HTTP error means for a request: try again, give this row up, or end the run."""

import contextlib
import email.utils
import html
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from distill_jax.teachers.messages import TeacherError
from distill_jax.teachers.secrets import redact

_TRANSIENT = (408, 409, 425, 429)
_TIMED_OUT = (408, 504)
_FATAL = (401, 402, 403, 404, 405)
_NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached")
_PAGE = 100_000  # characters of a page that are read
_WORDS = 2000  # characters of a message in which advice is looked for
_DEEPEST = 20  # of the JSON in which a message is looked for
# Names of fields with words, without case and `_`.
_SAYING = tuple(
    "error message detail details msg errors errormessage errordescription description reason title fault "
    "faultstring errormsg errmsg baseresp statusmsg".split()
)
# An error's name in the body of a 200 -> the status that it would have had.
_NAMED = (
    (r"auth|api.?key|permission|forbidden|credential", 401),
    (r"not.?found|no.?such.?model|unknown.?model", 404),
    (r"rate|overload|too.?many|unavailable|capacity|timeout|server|internal", 503),
    (r"invalid|unsupported|bad.?request|context.?length", 400),
)
# What an error without a name says there -> that status.
_TOLD = (
    (r"api.?key|unauthori[sz]ed|authenticat|credentials|access.?token|access denied|subscription key", 401),
    (r"insufficient.{0,9}(balance|credit|quota|funds)|\b(no|out of) (credit|balance)", 402),
    (r"\bmodel\b.*\b(not found|not exist|unknown)", 404),
)
# What an error says -> what mends it.
_ADVICE = (
    (r"max_completion_tokens|max_tokens|max_output_tokens", "--max-tokens-field NAME, or --max-tokens"),
    (r"api[-_ ]version", "end --base-url in ?api-version=…"),
    (r"temperature", "--temperature none"),
    (r"context.?(?:length|window|size)|maximum.{0,20}tokens|too long", "--shots, --max-tokens"),
    (r"\bn\b.{0,20}\b1\b", "--samples-per-request 1"),
    (
        r"\bsystem\b.*\b(role|message|prompt|instruction)|developer instruction|\brole\b.*\bsystem\b"
        r"|\broles?\b.*\balternat",
        "--no-system",
    ),
    (r"chat.?template|not a chat model|does not support chat|use v1/completions", "--protocol completions"),
    (r"\bmodel\b.*\b(not found|not exist|unknown|not available)", "--model?"),
    (r"response_format|json_schema|structured", "leave --structured out"),
    (r"top_logprobs|logprobs", "leave --logprobs out"),
)
_FIELD = re.compile(
    r"(?:[\"'`]|\bbody\.|\b(?:argument|parameter|field|input)s?\b[^\"'`:]{0,20}:? )"
    r"(stop|seed|top_p|n|temperature|logprobs|response_format|max_tokens)(?:[\"'`]|:|$)"
)
_REFUSES = re.compile(
    r"unknown|unsupported|not supported|unrecognized|not permitted|cannot find|extra|unexpected", re.I
)
_MODEL = re.compile(r"\bmodel\b", re.IGNORECASE)


def status_error(
    status: int, message: str, headers: Mapping[str, str] | None = None, code: str | None = None
) -> TeacherError:
    """The error of a response with this status; `code` is that of OpenAI's error body."""
    no_credit = code in _NO_CREDIT
    advice = _advice(status, message)
    return TeacherError(
        one_line(f"HTTP {status}: {message}") + (f" ({advice})" if advice else ""),
        transient=(status in _TRANSIENT or status >= 500) and not no_credit,
        retry_after=retry_after(headers or {}),
        status=status,
        fatal=status in _FATAL or no_credit,
        timed_out=status in _TIMED_OUT,
    )


def _advice(status: int, message: str) -> str:
    """The flag or the address that mends an error; "" where none is known."""
    if status in (401, 403):
        return "a wrong key? It comes from OPENAI_API_KEY or --api-key-env NAME"
    if status == 404 and re.search(r"deployment", message, re.IGNORECASE):
        return "--base-url: is there such a deployment?"
    if status in (404, 405) and not re.search(r"not a chat model|use v1/completions", message):
        return "--model?" if _MODEL.search(message) else "does the address end in /v1?"
    if status not in (400, 404, 422):
        return ""
    message = message[:_WORDS]
    for pattern, advice in _ADVICE:
        if re.search(pattern, message, re.IGNORECASE):
            return advice
    field = _FIELD.search(message) if _REFUSES.search(message) else None
    return f"--omit {field[1]}" if field else ""


def body_error(message: str, names: Sequence[str]) -> TeacherError:
    """The error in a body with the status 200: by its names, such as `invalid_api_key`, or by its words."""
    if no_credit := next((name for name in names if name in _NO_CREDIT), None):
        return status_error(402, message, code=no_credit)
    for known, text in ((_NAMED, " ".join(names)), (_TOLD, message[:300])):
        for pattern, status in known:
            if re.search(pattern, text, re.IGNORECASE):
                return status_error(status, message)
    return TeacherError(one_line(f"not a completion: {message}"), transient=True)


def error_message(body: Any, depth: int = 0) -> str:
    """The words in the body of an error, which may be an object, a list, a text or a page; "" without any."""
    if isinstance(body, str):
        return _plain(body, depth)
    if depth > _DEEPEST:
        return ""
    if isinstance(body, list | tuple):
        told = dict.fromkeys(filter(None, (error_message(part, depth + 1) for part in body[:3])))
        return "; ".join(told)
    if not isinstance(body, Mapping):
        return ""
    fields = {str(name).casefold().replace("_", ""): value for name, value in body.items()}
    for name in _SAYING:
        if fields.get(name) and (message := error_message(fields[name], depth + 1)):
            place = body.get("loc")
            where = ".".join(map(str, place)) if name == "msg" and isinstance(place, list) else ""
            return f"{where}: {message}" if where else message
    return ""


def _plain(text: str, depth: int) -> str:
    """A text as it is, the message in one that is JSON, and a page without its tags: its title first."""
    start = text.lstrip()[:1]
    if start in ("{", "[") and depth <= _DEEPEST:
        try:
            return error_message(json.loads(text), depth + 1) or text.strip()
        except (ValueError, RecursionError):
            return text.strip()
    if start != "<":
        return text.strip()
    page = re.sub(r"(?is)<(script|style)\b.*?(?:</\1>|\Z)", " ", text[:_PAGE])
    return " ".join(html.unescape(re.sub(r"<[^<>]*>", " ", page)).split())


def no_answer(timeout: float) -> TeacherError:
    """The error of a request that took longer than `timeout` seconds."""
    advice = "--timeout SECONDS gives it longer, --concurrency N asks for less at a time"
    return TeacherError(f"no answer within {timeout:g} s ({advice})", transient=True, timed_out=True)


def unknown_error(error: BaseException, what: str = "") -> TeacherError:
    """The error of a failure that may pass: a broken connection, an answer of an unexpected shape."""
    return TeacherError(one_line(f"{what}{type(error).__name__} {error}"), transient=True)


def one_line(message: str) -> str:
    """`message` without API keys and line breaks, 300 characters at most."""
    text = " ".join(redact(message).split())
    return text if len(text) <= 300 else f"{text[:300]}…"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of `Retry-After`: a number or a date (RFC 9110, 10.2.3); or OpenAI's `retry-after-ms`.

    None where there is none, or it is negative, infinite or not a number.
    """
    value = headers.get("retry-after", "")
    for text, scale in ((headers.get("retry-after-ms", ""), 1000.0), (value, 1.0)):
        with contextlib.suppress(ValueError):
            seconds = float(text) / scale
            return seconds if 0.0 <= seconds < math.inf else None
    with contextlib.suppress(ValueError, OverflowError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None
