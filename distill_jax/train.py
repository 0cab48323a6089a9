"""`python -m distill_jax.train --gin_file=… --gin.NAME=…`: the same as `distill-jax train`."""

import sys


def main(argv: list[str]) -> int:
    """Runs the command; the exit status."""
    from distill_jax.cli.main import main

    return main(["train", *argv])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
