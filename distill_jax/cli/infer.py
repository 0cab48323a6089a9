"""`distill-jax infer`."""

from distill_jax.cli.common import add_command, quiet
from distill_jax.config import InferConfig


def _infer(config: InferConfig) -> int:
    from distill_jax.decoding.infer import infer_run

    quiet()
    infer_run(config)
    return 0


def add(commands) -> None:
    """Adds the command."""
    add_command(commands, "infer", "predict labels and rationales for a file of inputs", _infer, InferConfig)
