"""`python -m distill_jax.eval --gin_file=… --gin.NAME=…`: the same as `distill-jax eval`."""

import sys


def main(argv: list[str]) -> int:
    """Runs the command; the exit status."""
    from distill_jax.cli.main import main

    return main(["eval", *argv])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
