"""`distill-jax convert`: between our checkpoints, T5X's and Hugging Face's."""

import os

from distill_jax import files
from distill_jax.cli.common import command, quiet
from distill_jax.config import ConvertConfig
from distill_jax.errors import UserError


@command("convert", "turn a checkpoint into one of ours, T5X's or Hugging Face's")
def _convert(config: ConvertConfig) -> int:
    if "://" not in config.source and not os.path.exists(config.source):  # before anything heavy is imported
        raise UserError(f"{config.source}: no such folder")
    files.refuse_existing(config.destination, "choose another folder")
    from distill_jax.checkpoints.convert import convert

    quiet()
    done = convert(config)
    print(f"{done.parameters} parameters, {done.source_format} to {config.to}: {config.destination}")
    if not done.has_vocabulary:
        print("no vocabulary in the source, so none in the result: give --vocabulary to add one")
    if config.to == "distill-jax" and done.task is None:
        print("no task in the source: eval and infer need one, give --task; train --init takes it as it is")
    return 0
