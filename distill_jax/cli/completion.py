"""`distill-jax completion`: what a shell completes, from the options that the flags are made of."""

import argparse

from distill_jax import tasks
from distill_jax.cli.common import command
from distill_jax.config import CompletionConfig
from distill_jax.config.flags import Parser
from distill_jax.config.gin_files import models
from distill_jax.config.options import kinds_of

_TASK = ("mixture_or_task_name", "task")  # options that name one


@command("completion", "print the script that completes commands and flags in bash, zsh or fish")
def _completion(config: CompletionConfig) -> int:
    import shtab

    from distill_jax.cli.main import parser

    whole = parser()
    _describe(whole)
    print(shtab.complete(whole, config.shell))
    return 0


def _describe(parser: Parser) -> None:
    """Says of all flags and arguments what their values may be, in the attributes that shtab reads."""
    for below in parser.commands.values():
        _describe(below)
    for name, action in parser.actions.items():
        field = parser.options.options()[name]
        choices = sorted(tasks.MODULES) if name in _TASK else field.metadata["option"].choices
        _complete(action, choices, is_text=str in kinds_of(field.type)[0])
    for flag, action in parser.sources.items():
        _complete(action, models() if flag == "--model" else (), is_text=not flag.startswith("--gin."))


def _complete(action: argparse.Action, choices: tuple[str, ...] | list[str], is_text: bool) -> None:
    """One of the choices; without any a file, where it is a text, as most of these are."""
    import shtab

    if choices:
        action.choices = choices
    elif is_text:
        action.complete = shtab.FILE
