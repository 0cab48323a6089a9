"""The train step that is planned: a model, a mesh, a batch."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from distill_jax.models.config import ModelConfig
from distill_jax.models.families import describe, make_config
from distill_jax.models.lora import Lora
from distill_jax.training import mesh


@dataclasses.dataclass(frozen=True)
class Job:
    """What is compiled: `mesh` has a size for every axis, `batch_size` is in rows of a global batch."""

    config: ModelConfig
    mesh: Mapping[str, int]
    batch_size: int
    lengths: Mapping[str, int]
    microbatches: int = 1
    optimizer: str = "adamw"
    loss_chunk: int = 2048
    partition: str | Sequence = mesh.DEFAULT
    lora: Lora | None = None

    @property
    def devices(self) -> int:
        """The number of devices of the mesh."""
        return math.prod(self.mesh.values())

    def to_json(self) -> dict[str, Any]:
        """For the process that compiles; `from_json` is the inverse."""
        return dataclasses.asdict(self) | {"config": describe(self.config)}

    @staticmethod
    def from_json(fields: Mapping[str, Any]) -> "Job":
        lora = fields.get("lora")
        lora = lora and Lora(**lora | {"targets": tuple(lora["targets"])})
        return Job(**dict(fields) | {"config": make_config(fields["config"]), "lora": lora})
