"""How the rows of a run become batches: packed by us and by SeqIO, padded for the reference."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

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
    "ours": Packing("step_by_step", 272, 92),
    "ours_shared_encoding": Packing("step_by_step_shared", 128, 92),
}
T5X_PACKING = Packing("step_by_step", 256, 96)


def packed(settings: Settings, packing: Packing, start: int = 0) -> tuple[list[Batch], list[float], dict]:
    """Batches of about `settings.batch` pairs, the pairs in each, and how they are packed.

    The rows are spread evenly over as many updates as the reference makes with the same pairs. Where T5's
    decoder begins with 0, it begins with the token `start`; what else tells the views apart stays.
    """
    prepared = data.prepared(settings, packing.method, packing.inputs, packing.targets)
    rows = _rows_of_a_batch(settings, prepared.manifest["rows"])
    batches = list(Loader(prepared.path, rows, seed=0, shuffle=False, num_epochs=1, pad_last=True))
    for batch in batches if start else ():
        segments, tokens = batch["decoder_segment_ids"], batch["decoder_input_tokens"]
        first = (segments > 0) & (segments != np.pad(segments, ((0, 0), (1, 0)))[:, :-1])
        batch["decoder_input_tokens"] = np.where(first & (tokens == 0), start, tokens)
    pairs = sum(prepared.manifest["with_target"].values()) / 2
    return batches, [pairs / len(batches)] * len(batches), _described(packing, batches)


def packed_by_seqio(settings: Settings, packing: Packing) -> tuple[list[Batch], list[float], dict]:
    """As `packed`, by the feature converter that T5X trains with, which packs examples as they come.

    They come in a random order, as from a mixture of the two tasks.
    """
    import seqio
    import tensorflow as tf

    chosen = pairs(settings)
    examples = [example for pair in chosen for example in pair]
    order = np.random.default_rng(0).permutation(len(examples))
    tokens = tf.TensorSpec([None], tf.int32)
    dataset = tf.data.Dataset.from_generator(
        lambda: (dict(zip(("inputs", "targets"), examples[number], strict=True)) for number in order),
        output_signature={"inputs": tokens, "targets": tokens},
    )
    lengths = {"inputs": packing.inputs, "targets": packing.targets}
    rows = list(seqio.EncDecFeatureConverter(pack=True)(dataset, lengths).as_numpy_iterator())
    count = _rows_of_a_batch(settings, len(rows))
    rows += [{name: np.zeros_like(x) for name, x in rows[0].items()}] * (-len(rows) % count)
    batches = [
        {name: np.stack([row[name] for row in rows[start : start + count]]) for name in rows[0]}
        for start in range(0, len(rows), count)
    ]
    return batches, [len(chosen) / len(batches)] * len(batches), _described(packing, batches)


def _rows_of_a_batch(settings: Settings, rows: int) -> int:
    """So that all rows make as many batches as the reference's."""
    return math.ceil(rows / max(1, round(settings.rows / settings.batch)))


def _described(packing: Packing, batches: Sequence[Batch]) -> dict:
    """For the results; the fills are those of all rows, the empty ones of the last batch included."""
    tokens = {
        f"{side}_fill": round(float(np.mean([batch[name] > 0 for batch in batches])), 4)
        for side, name in (("encoder", "encoder_segment_ids"), ("decoder", "decoder_segment_ids"))
    }
    rows = len(batches[0]["encoder_segment_ids"])
    return dataclasses.asdict(packing) | {"rows": rows, "updates": len(batches)} | tokens


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
