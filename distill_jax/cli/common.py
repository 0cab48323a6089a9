"""What several commands share."""

import functools
import json
import logging
import sys
from collections.abc import Callable
from typing import Any

from distill_jax.config import Options
from distill_jax.errors import UserError

# Help, examples and function of each command, by its words.
REGISTERED: dict[str, tuple[str, str, Callable[..., int]]] = {}
EXTRA = ("bm25s", "genai_prices", "json_repair", "openai", "pydantic", "scipy", "tenacity", "yaml")


def command(
    name: str, help_text: str, examples: str = ""
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Registers a command: a function of its configuration in `config.COMMANDS`, if any, to its exit status.

    `examples` are command lines that run as they are, one after the other over all commands: what the help of
    one makes, that of the next reads.
    """

    def register(function: Callable[..., int]) -> Callable[..., int]:
        REGISTERED[name] = (help_text, examples, function)
        return function

    return register


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


def print_json(value: Any) -> None:
    """What `--json` prints: one value, alone on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def keep_compiled() -> None:
    """Keeps compiled programs for the commands after this one, see `training.programs`; imports JAX."""
    from distill_jax.training import programs

    programs.keep_compiled()


def quiet() -> None:
    """Silences Orbax, which logs every file it opens, and every error that it raises.

    Where a save fails, TensorStore prints an error of its own for each write that was still under way.
    """
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    if getattr(sys.unraisablehook, "func", None) is not _but_closed_loops:
        sys.unraisablehook = functools.partial(_but_closed_loops, sys.unraisablehook)


def _but_closed_loops(tell: Callable[[Any], None], unraisable: Any) -> None:
    if not (unraisable.exc_type is RuntimeError and str(unraisable.exc_value) == "Event loop is closed"):
        tell(unraisable)
