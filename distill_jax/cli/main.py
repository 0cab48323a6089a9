"""The command `distill-jax`; its subcommands are in `distill_jax.cli`."""

import argparse
import logging
import os
import sys

from distill_jax import cli
from distill_jax.errors import UserError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="distill-jax",
        description="Distilling step-by-step in JAX: small T5 students from labels and rationales.",
        epilog="train, eval and infer also take T5X's --gin_file, --gin.NAME=VALUE, --gin_search_paths.",
    )
    cli.add_all(parser.add_subparsers(required=True, metavar="COMMAND"))
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs the command; the exit status."""
    logging.basicConfig(format="%(message)s")
    argv = sys.argv[1:] if argv is None else argv
    # argparse would read --gin.X as an abbreviation; gin flags go through as they are.
    gin = [flag for flag in argv if flag.startswith(("--gin_", "--gin."))]
    args = _parser().parse_args([flag for flag in argv if flag not in gin])
    args.gin = gin
    try:
        return args.function(args)
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
