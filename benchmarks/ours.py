"""Our train step, on packed records that `prepare` wrote."""

import dataclasses
import math
from typing import Any

import jax

from benchmarks import data
from benchmarks.contestants import Contestant
from benchmarks.settings import Settings
from benchmarks.students import LEARNING_RATE
from distill_jax.data.loader import Batch, Loader
from distill_jax.losses import step_by_step_weights
from distill_jax.models.config import T5Config
from distill_jax.models.t5 import Transformer
from distill_jax.training import optimizers, train_state
from distill_jax.training.step import make_train_step


@dataclasses.dataclass(frozen=True)
class Packing:
    """How pairs become batches.

    Attributes:
      method: of the task, as in `cqa_METHOD`.
      inputs: encoder tokens of a row.
      targets: decoder tokens of a row.
    """

    method: str
    inputs: int
    targets: int


# The only place that says what "ours" is. The lengths are those that `train_step --sweep` found quickest.
PACKINGS: dict[str, Packing | None] = {
    "ours": Packing("step_by_step", 256, 96),
    "ours_shared_encoding": None,
}


def batches(settings: Settings, packing: Packing) -> tuple[list[Batch], list[float], dict]:
    """Batches of about `settings.batch` pairs, the pairs in each, and how they are packed.

    The rows are spread evenly over as many updates as the reference makes with the same pairs.
    """
    prepared = data.prepared(settings, packing.method, packing.inputs, packing.targets)
    manifest = prepared.manifest
    updates = max(1, round(settings.rows / settings.batch))
    rows = math.ceil(manifest["rows"] / updates)
    loader = Loader(prepared.path, rows, seed=0, shuffle=False, num_epochs=1, pad_last=True)
    made = list(loader)
    pairs = sum(manifest["with_target"].values()) / 2
    described = dataclasses.asdict(packing) | {
        "rows": rows,
        "updates": len(made),
        "encoder_fill": round(manifest["encoder_fill"], 4),
        "decoder_fill": round(manifest["decoder_fill"], 4),
    }
    return made, [pairs / len(made)] * len(made), described


def contestant(settings: Settings, packing: Packing, config: T5Config, params: Any) -> Contestant:
    """Our step from these parameters, which are copied."""
    made, pairs, described = batches(settings, packing)
    model = Transformer(config)
    optimizer = optimizers.adamw(LEARNING_RATE)
    train_step = make_train_step(model, optimizer, step_by_step_weights())
    made = jax.device_put(made)
    state = train_state.create(jax.tree.map(jax.numpy.array, params), optimizer)

    def step(number: int) -> float:
        nonlocal state
        state, metrics = train_step(state, made[number])
        return float(jax.block_until_ready((state, metrics))[1]["loss"])

    return Contestant(step, pairs, described | {"dtype": config.dtype, "optimizer": "adamw", "clip_norm": 1.0})
