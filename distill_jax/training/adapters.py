"""The base model of a run that trains adapters: its parameters, which no step changes, and its identity."""

import dataclasses
import os
from typing import Any

from distill_jax.checkpoints.formats.parameters import fingerprint, from_tree
from distill_jax.config import TrainConfig
from distill_jax.data.vocabularies import Vocabulary
from distill_jax.errors import UserError
from distill_jax.models.families import Network
from distill_jax.models.lora import Lora
from distill_jax.training import partitioning
from distill_jax.training.initial import initial_params
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

    def describe(self) -> dict[str, Any]:
        """What `run.json` holds, for `checkpoints.reading` to load the model again."""
        lora = dataclasses.asdict(self.lora) | {"targets": list(self.lora.targets)}
        return lora | {"base": self.path, "fingerprint": self.fingerprint}


def lora_of(config: Any) -> Lora | None:
    """The adapters of options such as a `TrainConfig`; None for training all weights."""
    if not config.lora_rank:
        return None
    return Lora(config.lora_rank, config.lora_alpha, config.lora_targets)


def load_base(config: TrainConfig, model: Network, vocabulary: Vocabulary, place: Partitioner) -> Base | None:
    """Loads what a run adapts; None for a run that trains all weights.

    Raises:
      UserError: where training starts from random weights, the checkpoint does not fit, or no kernel is a
        target.
    """
    lora, path = lora_of(config), config.initial_checkpoint_path
    if lora is None:
        return None
    if path in (None, "none"):
        raise UserError(
            f"LORA_RANK {lora.rank}: adapters need a trained model beneath them: give INITIAL_CHECKPOINT_PATH "
            "(--init)"
        )
    params = initial_params(model, path, vocabulary)
    identity = fingerprint(from_tree(params))
    lora.axes(partitioning.logical_axes(model), tuple)  # names a target that there is not
    path = path if "://" in path else os.path.abspath(path)
    return Base(lora, partitioning.put(params, place.params(model)), path, identity)
