"""API keys: read from the environment, and redacted in everything that is written."""

import logging
import os
import urllib.parse

from distill_jax.errors import UserError

_SHORTEST = 8  # a shorter "key", such as `none`, is no secret, and may be a word of an answer
_known: set[str] = set()


def api_key(variable: str, needed: bool) -> str | None:
    """The key in an environment variable; `redact` removes it from then on.

    Raises:
      UserError: when it is needed and not set, or cannot be sent in an HTTP header.
    """
    value = os.environ.get(variable, "").strip()
    if not value and needed:
        raise UserError(f"no API key: put it into the environment variable {variable}")
    if not value:
        return None
    if not value.isascii() or not value.isprintable() or " " in value:
        raise UserError(
            f"the API key in {variable} has characters that an HTTP header cannot hold: set it again"
        )
    if len(value) >= _SHORTEST:
        _known.add(value)
    return value


def redact(text: str) -> str:
    """`text` with every key that was read replaced by `[API key]`."""
    for key in sorted(_known, key=len, reverse=True):  # one may be the beginning of another
        text = text.replace(key, "[API key]")
    return text


def checked_url(base_url: str) -> str:
    """`base_url` as it is.

    Raises:
      UserError: when it is no HTTP address, or has a part that may be a secret: it is stored with every row.
    """
    try:
        parts = urllib.parse.urlsplit(base_url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise UserError("--base-url (or OPENAI_BASE_URL): expected an address such as http://localhost:8000/v1")
    names = [name for name, _ in urllib.parse.parse_qsl(parts.query, keep_blank_values=True)]
    if parts.username or parts.password or (parts.query and names != ["api-version"]):
        raise UserError(
            "--base-url (or OPENAI_BASE_URL): a password or key may not be part of the address: put it into "
            "an environment variable and name that with --api-key-env"
        )
    return base_url


class RedactingFilter(logging.Filter):
    """Redacts keys in log records, those of the libraries included."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrites the message; no record is dropped."""
        record.msg, record.args = redact(record.getMessage()), ()
        if record.exc_info:
            text = logging.Formatter().formatException(record.exc_info)
            record.exc_info, record.exc_text = None, redact(text)
        return True


def redact_logs() -> None:
    """Puts the filter on the handlers of the root logger and of every logger that has its own."""
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
    for handler in {handler for logger in loggers for handler in logger.handlers}:
        if not any(isinstance(f, RedactingFilter) for f in handler.filters):
            handler.addFilter(RedactingFilter())
