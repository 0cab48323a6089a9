"""The command `distill-jax`; its subcommands are in `distill_jax.cli`."""

import logging
import os
import sys

from distill_jax import cli
from distill_jax.config.flags import Parser, configuration
from distill_jax.errors import UserError


def _parser() -> Parser:
    parser = Parser(
        prog="distill-jax",
        description="Distilling step-by-step in JAX: small T5 students from labels and rationales.",
        epilog="Every command with options also takes T5X's --gin_file, --gin.NAME=VALUE, --gin_search_paths,\n"
        "and --config of an earlier run.",
    )
    cli.add_all(parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser))
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs the command; the exit status."""
    logging.basicConfig(format="%(message)s")
    args = _parser().parse_args(argv)
    try:
        return args.function(*([configuration(args)] if args.options else []))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


if __name__ == "__main__":
    sys.exit(main())
