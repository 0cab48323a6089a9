"""The base model of a run that trains adapters: its parameters, which no step changes, and its identity."""

import dataclasses
import os
from typing import Any

from distill_jax.checkpoints.other_formats.parameters import fingerprint
from distill_jax.checkpoints.reading import Checkpoint
from distill_jax.checkpoints.run_dir import LoraDescription
from distill_jax.config import PretrainConfig, TrainConfig
from distill_jax.data.vocabularies import Vocabulary
from distill_jax.errors import UserError
from distill_jax.models.families import Network
from distill_jax.models.lora import Lora
from distill_jax.training import distributed, partitioning
from distill_jax.training.initial import initial_params, open_start
from distill_jax.training.partitioning import Partitioner


@dataclasses.dataclass(frozen=True)
class Base:
    """A frozen model beneath adapters.

    Attributes:
      lora: the adapters.
      params: of the model, on the mesh.
      path: of the checkpoint that it is from; a folder's is absolute.
      fingerprint: of the values of its parameters.
    """

    lora: Lora
    params: Any
    path: str
    fingerprint: str

    def describe(self) -> LoraDescription:
        """What `run.json` holds, for `checkpoints.reading` to load the model again."""
        lora = dataclasses.asdict(self.lora) | {"targets": list(self.lora.targets)}
        return lora | {"base": self.path, "fingerprint": self.fingerprint}


def lora_of(config: Any) -> Lora | None:
    """The adapters of options such as a `TrainConfig`; None for training all weights."""
    if not config.lora_rank:
        return None
    return Lora(config.lora_rank, config.lora_alpha, config.lora_targets)


def check_base(config: TrainConfig | PretrainConfig) -> None:
    """Raises UserError where adapters are asked for, but training starts from random weights."""
    if config.lora_rank and config.start is None:
        raise UserError(
            f"{TrainConfig.named('lora_rank')} {config.lora_rank}: adapters need a trained model beneath them: "
            f"give {TrainConfig.named('initial_checkpoint_path')}"
        )


def load_base(
    config: TrainConfig | PretrainConfig,
    model: Network,
    start: Checkpoint | None,
    vocabulary: Vocabulary,
    place: Partitioner,
) -> Base | None:
    """Loads what a run adapts, to where the mesh has it; None for a run that trains all weights.

    `start` is the open checkpoint of a new run; one that resumes, which has none, opens it here.

    Raises:
      UserError: where the checkpoint cannot be had or does not fit, or no kernel is a target.
    """
    lora, path = lora_of(config), config.start
    if lora is None:
        return None
    partitioning.logical_axes(model, lora)  # names a target that there is not
    start = start or distributed.first_alone(lambda: open_start(path, model, config.verify_checksums))
    params = initial_params(model, start, vocabulary, place.params(model))
    path = path if "://" in path else os.path.abspath(path)
    return Base(lora, params, path, fingerprint(start.parameters))
