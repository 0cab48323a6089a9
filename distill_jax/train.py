"""`python -m distill_jax.train --gin_file=… --gin.NAME=…`: trains a student."""

import sys

from distill_jax import gin_utils


def main(argv: list[str]) -> int:
    """Reads the gin flags in `argv` and trains; the exit status."""
    from distill_jax.training import trainer

    return gin_utils.run_main(argv, trainer.train)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
