"""What several commands share."""

import functools
import logging
from collections.abc import Callable
from typing import Any

from distill_jax.config import Options
from distill_jax.config.flags import Parser
from distill_jax.errors import UserError

EXTRA = ("bm25s", "openai", "pydantic", "scipy", "tenacity", "yaml")


def add_command(
    commands: Any, name: str, help_text: str, function: Callable[..., int], options: type[Options] | None = None
) -> None:
    """Adds a command that calls `function(config)`, or `function()` without options, for its exit status."""
    parser: Parser = commands.add_parser(name, help=help_text, description=help_text, options=options)
    parser.set_defaults(function=function, options=options)


def add_group(commands: Any, name: str, help_text: str) -> Any:
    """Adds a command of several; returns what theirs are added to."""
    return commands.add_parser(name, help=help_text).add_subparsers(required=True, metavar="COMMAND")


def with_extra(function: Callable[..., int]) -> Callable[..., int]:
    """Names the extra where one of its packages is not installed."""

    @functools.wraps(function)
    def run(config: Options) -> int:
        try:
            return function(config)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in EXTRA:
                raise
            raise UserError(f"{error}: pip install 'distill_jax[teachers]'") from None

    return run


def quiet(level: int = logging.ERROR) -> None:
    """Silences Orbax, which logs every file it opens."""
    logging.getLogger("absl").setLevel(level)
