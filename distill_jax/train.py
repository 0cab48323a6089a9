"""`python -m distill_jax.train --gin_file=… --gin.NAME=…`: trains a student."""

import sys

from distill_jax import gin_utils


def main(argv: list[str]) -> int:
    """Reads the gin flags in `argv` and trains; the exit status."""
    from distill_jax.training import trainer
    from distill_jax.training.preemption import EXIT_STATUS, Preempted

    try:
        return gin_utils.run_main(argv, trainer.train)
    except Preempted as stop:
        print(f"{str(stop).splitlines()[0]}; the same command resumes from there", file=sys.stderr)
        return EXIT_STATUS


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
