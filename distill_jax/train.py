"""`python -m distill_jax.train --gin_file=… --gin.NAME=…`: trains a student."""

import sys

from distill_jax import gin_utils
from distill_jax.errors import UserError


def main(argv: list[str]) -> int:
    """Reads the gin flags in `argv` and trains; the exit status."""
    try:
        gin_utils.parse(argv)
        import gin

        from distill_jax.training import trainer

        gin.get_configurable(trainer.train)()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
