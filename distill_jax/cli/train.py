"""`distill-jax train`: a task or the user's own files, a method, a student; `pretrain`: text, a student."""

import shlex
import sys

from distill_jax.cli import host_memory
from distill_jax.cli.common import command, quiet
from distill_jax.config import PretrainConfig, TrainConfig, TrainerOptions


@command("train", "train a student")
def _train(config: TrainConfig) -> int:
    return _run("train", config)


@command("pretrain", "pretrain a student on text, for `train --init` to start from")
def _pretrain(config: PretrainConfig) -> int:
    return _run("pretrain", config)


def _run(name: str, config: TrainerOptions) -> int:
    """Runs a function of `distill_jax` with a progress bar; the exit status."""
    from distill_jax.tasks.resolve import resolve

    resolve(config)  # an unknown task, or a file without rows, before JAX is imported
    host_memory.keep_freed()  # before JAX starts its threads
    import distill_jax
    from distill_jax.cli.progress import ProgressBar
    from distill_jax.training import distributed
    from distill_jax.training.preemption import EXIT_STATUS, Preempted

    quiet()
    try:
        getattr(distill_jax, name)(config, listener=ProgressBar())
    except Preempted as stop:
        print(f"{str(stop).splitlines()[0]}; the same command resumes from there", file=sys.stderr)
        return EXIT_STATUS
    if distributed.is_primary():
        folder = shlex.quote(config.model_dir)
        data = f" --data-dir {shlex.quote(config.data_dir)}" if config.data_dir else ""
        after = f"eval {folder}{data}" if name == "train" else f"train TASK --init {folder}{data}"
        print(f"{config.model_dir}: trained to step {config.train_steps}", file=sys.stderr)
        print(f"next: distill-jax {after}", file=sys.stderr)
    return 0
