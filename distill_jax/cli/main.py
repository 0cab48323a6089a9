"""The command `distill-jax`; its subcommands are in `distill_jax.cli`."""

import atexit
import gc
import importlib
import io
import logging
import os
import sys
import textwrap

import distill_jax
from distill_jax import files
from distill_jax.cli.common import REGISTERED
from distill_jax.config import COMMANDS
from distill_jax.config.data import OwnData
from distill_jax.config.flags import Parser, configuration
from distill_jax.errors import Status, UserError

MODULES = (
    "demo",
    "data",
    "annotate",
    "train",
    "sweep",
    "student",
    "check",
    "report",
    "plan",
    "convert",
    "export",
    "options",
    "completion",
)
GROUPS = {
    "data": "look at tasks and their statistics",
    "store": "bring completions into a store, and out of it",
}


def parser() -> Parser:
    """The parser of all commands."""
    whole = Parser(
        prog="distill-jax",
        description="Distilling step-by-step in JAX: small T5 students from labels and rationales.",
        epilog="Every command with options also takes T5X's --gin_file, --gin.NAME=VALUE, --gin_search_paths,\n"
        "and --config of an earlier run.",
    )
    whole.add_argument("--version", action="version", version=f"%(prog)s {distill_jax.__version__}")
    below = {"": whole.add_subparsers()}
    for module in MODULES:
        importlib.import_module(f"distill_jax.cli.{module}")
    for name, (text, examples, function) in REGISTERED.items():
        group, _, word = name.rpartition(" ")
        if group not in below:
            added = below[""].add_parser(group, help=GROUPS[group])
            below[group] = added.add_subparsers()
        options = COMMANDS.get(name)
        shown = f"example:\n{textwrap.indent(examples, '  ')}" if examples else None
        added = below[group].add_parser(word, help=text, description=text, epilog=shown, options=options)
        added.set_defaults(function=function, options=options)
    return whole


def main(argv: list[str] | None = None) -> int:
    """Runs the command; the exit status."""
    logging.basicConfig(format="%(message)s")
    # Imports and tracing make a million objects that stay: seldom looked through, a start is a tenth faster.
    gc.set_threshold(50_000, 20, 20)
    atexit.register(gc.freeze)  # at its end they need not be looked through again: half a second
    _show_any_text()
    args = parser().parse_args(argv)
    try:
        config = [configuration(args)] if args.options else []
        if config and isinstance(config[0], OwnData):
            config[0].require_files()
        status = args.function(*config)
        sys.stdout.flush()
        return status
    except UserError as error:
        _end_output()
        print(f"error: {error}", file=sys.stderr)
        return Status.FAILED
    except KeyboardInterrupt:
        return Status.INTERRUPTED
    except BrokenPipeError:
        _end_output()
        return Status.CLOSED
    except OSError as error:
        if (words := files.words_of_disk(error)) is None:
            raise
        _end_output()
        print(f"error: {words}", file=sys.stderr)
        return Status.FAILED


def _show_any_text() -> None:
    """Escapes what standard output's encoding does not have, such as a label in Greek with LC_ALL=C."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _end_output() -> None:
    """Prints what is left to print, or drops it where that fails: Python would tell of it at its exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
