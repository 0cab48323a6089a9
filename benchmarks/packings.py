"""How the rows of a run become batches: packed for ours and T5X, padded for the reference."""

import dataclasses
import math

from benchmarks import data
from benchmarks.settings import Settings
from distill_jax.data.loader import Batch, Loader
from distill_jax.data.views import TASK_IDS

Example = tuple[list[int], list[int]]  # tokens of inputs and targets


@dataclasses.dataclass(frozen=True)
class Packing:
    """How pairs become packed rows.

    Attributes:
      method: of the task, as in `cqa_METHOD`.
      inputs: encoder tokens of a row.
      targets: decoder tokens of a row.
    """

    method: str
    inputs: int
    targets: int


# The only place that says what "ours" is. `train_step --sweep` compares lengths of a row.
PACKINGS = {
    "ours": Packing("step_by_step", 256, 96),
    "ours_shared_encoding": Packing("step_by_step_shared", 192, 144),
}
T5X_PACKING = Packing("step_by_step", 256, 96)


def packed(settings: Settings, packing: Packing) -> tuple[list[Batch], list[float], dict]:
    """Batches of about `settings.batch` pairs, the pairs in each, and how they are packed.

    The rows are spread evenly over as many updates as the reference makes with the same pairs.
    """
    prepared = data.prepared(settings, packing.method, packing.inputs, packing.targets)
    manifest = prepared.manifest
    updates = max(1, round(settings.rows / settings.batch))
    rows = math.ceil(manifest["rows"] / updates)
    batches = list(Loader(prepared.path, rows, seed=0, shuffle=False, num_epochs=1, pad_last=True))
    pairs = sum(manifest["with_target"].values()) / 2
    described = dataclasses.asdict(packing) | {
        "rows": rows,
        "updates": len(batches),
        "encoder_fill": round(manifest["encoder_fill"], 4),
        "decoder_fill": round(manifest["decoder_fill"], 4),
    }
    return batches, [pairs / len(batches)] * len(batches), described


def pairs(settings: Settings) -> list[tuple[Example, Example]]:
    """(label example, rationale example) of each row, in the tokens that ours gets."""
    prepared = data.prepared(settings, "step_by_step", 512, 256, pack=False)
    loader = Loader(prepared.path, 1, seed=0, shuffle=False, num_epochs=1)
    found: dict[int, dict[int, Example]] = {}
    for number, batch in enumerate(loader):
        (row,) = loader.examples(number)
        inputs, targets = batch["encoder_input_tokens"][0], batch["decoder_target_tokens"][0]
        example = inputs[inputs > 0].tolist(), targets[targets > 0].tolist()
        found.setdefault(row, {})[int(batch["decoder_task_ids"].max())] = example
    label, rationale = TASK_IDS["label"], TASK_IDS["rationale"]
    return [(views[label], views[rationale]) for views in found.values() if len(views) == 2]
