"""`python -m distill_jax.train --gin_file=… --gin.NAME=…`: trains a student."""

import sys

from distill_jax import gin_utils


def main(argv: list[str]) -> int:
    """Reads the gin flags in `argv` and trains; the exit status."""
    from distill_jax.training import distributed, trainer
    from distill_jax.training.preemption import EXIT_STATUS, Preempted

    try:
        status = gin_utils.run_main(argv, trainer.train)
    except Preempted as stop:
        print(f"{_line(stop)}; the same command goes on from there", file=sys.stderr)
        return EXIT_STATUS
    except distributed.PeerLost as error:
        print(
            f"error: another process of this run is gone ({_line(error)[:200]}): start all of them again, "
            "the run goes on from its last complete checkpoint",
            file=sys.stderr,
        )
        distributed.exit_now(1)
    if status and distributed.several():
        distributed.exit_now(status)  # the others must not wait for this one
    return status


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
