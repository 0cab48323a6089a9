"""`distill-jax train`: a task or the user's own files, a method, a student; `pretrain`: text, a student."""

import sys

from distill_jax.cli import host_memory
from distill_jax.cli.common import command, keep_compiled, quiet
from distill_jax.config import PretrainConfig, TrainConfig, TrainerOptions
from distill_jax.errors import UserError


@command(
    "train",
    "train a student",
    """\
distill-jax train arithmetic --num-examples 400 --model t5_1_1/tiny --steps 100 --model-dir student
distill-jax train --data my.csv --input question --label answer --rationale why""",
)
def _train(config: TrainConfig) -> int:
    return _run("train", config)


@command("pretrain", "pretrain a student on text, for `train --init` to start from")
def _pretrain(config: PretrainConfig) -> int:
    return _run("pretrain", config)


def _run(name: str, config: TrainerOptions) -> int:
    """Runs a function of `distill_jax` and prints how far it is; the exit status."""
    from distill_jax.tasks.resolve import resolve

    resolve(config)  # an unknown task, or a file without rows, before JAX is imported
    host_memory.keep_freed()  # before JAX starts its threads
    import jax

    import distill_jax
    from distill_jax.cli.progress import JsonLines, ProgressBar, Quiet
    from distill_jax.training.preemption import EXIT_STATUS, Preempted

    quiet()
    keep_compiled()
    listener = Quiet() if config.quiet else JsonLines() if config.json else ProgressBar()
    try:
        getattr(distill_jax, name)(config, listener=listener)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            f"out of memory ({str(error).splitlines()[0]:.200}): lower {config.named('batch_size')} or "
            f"{config.named('task_feature_lengths')}, split the batch with {config.named('microbatches')} 4, "
            "or take a smaller --model"
        ) from error
    except Preempted as stop:
        print(f"{str(stop).splitlines()[0]}; the same command resumes from there", file=sys.stderr)
        return EXIT_STATUS
    listener.end()
    return 0
