"""`python -m distill_jax.train --gin_file=… --gin.NAME=…`: trains a student."""

import sys
import traceback

from distill_jax import gin_utils


def main(argv: list[str]) -> int:
    """Reads the gin flags in `argv` and trains; the exit status."""
    from distill_jax.training import distributed, peers, trainer
    from distill_jax.training.preemption import EXIT_STATUS, Preempted

    try:
        status = gin_utils.run_main(argv, trainer.train)
    except Preempted as stop:
        print(f"{str(stop).splitlines()[0]}; the same command goes on from there", file=sys.stderr)
        return EXIT_STATUS
    except Exception:
        if not distributed.several():
            raise
        peers.wait_for_news()
        traceback.print_exc()
        status = 1
    if status and distributed.several():
        distributed.exit_now(status)  # the others must not wait for this one
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
