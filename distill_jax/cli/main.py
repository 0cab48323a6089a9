"""The command `distill-jax`; its subcommands are in `distill_jax.cli`."""

import importlib
import logging
import os
import sys

import distill_jax
from distill_jax.cli.common import REGISTERED
from distill_jax.config import COMMANDS
from distill_jax.config.data import OwnData
from distill_jax.config.flags import Parser, configuration
from distill_jax.errors import UserError

MODULES = (
    "demo",
    "data",
    "annotate",
    "train",
    "sweep",
    "student",
    "report",
    "plan",
    "convert",
    "export",
    "options",
)
GROUPS = {
    "data": "look at tasks and their statistics",
    "store": "bring completions into a store, and out of it",
}


def _parser() -> Parser:
    parser = Parser(
        prog="distill-jax",
        description="Distilling step-by-step in JAX: small T5 students from labels and rationales.",
        epilog="Every command with options also takes T5X's --gin_file, --gin.NAME=VALUE, --gin_search_paths,\n"
        "and --config of an earlier run.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {distill_jax.__version__}")
    below = {"": parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)}
    for module in MODULES:
        importlib.import_module(f"distill_jax.cli.{module}")
    for name, (text, function) in REGISTERED.items():
        group, _, word = name.rpartition(" ")
        if group not in below:
            added = below[""].add_parser(group, help=GROUPS[group])
            below[group] = added.add_subparsers(required=True, metavar="COMMAND")
        options = COMMANDS.get(name)
        added = below[group].add_parser(word, help=text, description=text, options=options)
        added.set_defaults(function=function, options=options)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs the command; the exit status."""
    logging.basicConfig(format="%(message)s")
    args = _parser().parse_args(argv)
    try:
        config = [configuration(args)] if args.options else []
        if config and isinstance(config[0], OwnData):
            config[0].require_files()
        return args.function(*config)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
