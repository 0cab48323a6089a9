"""Batches of random ids with CQA's lengths, where no data is read. Imports no TensorFlow, gin or grain."""

import numpy as np

from distill_jax.data.packing import pack
from distill_jax.data.records import Segment, to_features
from distill_jax.data.views import TASK_IDS

Example = tuple[list[int], list[int]]  # tokens of inputs and targets
INPUTS = (45, 9)  # mean and deviation of the tokens, as CQA with PaLM's rationales has them
LABEL = (3, 1)
RATIONALE = (28, 8)


def pairs(count: int, vocab_size: int = 32_128, seed: int = 0) -> list[tuple[Example, Example]]:
    """(label example, rationale example) of `count` rows; the inputs of both are the same."""
    rng = np.random.default_rng(seed)

    def ids(mean: float, deviation: float) -> list[int]:
        length = int(np.clip(rng.normal(mean, deviation), 2, mean + 3 * deviation))
        return [*rng.integers(3, vocab_size, length - 1).tolist(), 1]

    made = []
    for _ in range(count):
        inputs = ids(*INPUTS)
        made.append(((inputs, ids(*LABEL)), (inputs, ids(*RATIONALE))))
    return made


def packed(
    examples: list[tuple[Example, Example]], lengths: tuple[int, int], rows: int
) -> tuple[list[dict[str, np.ndarray]], list[float], dict]:
    """Packed batches of `rows` rows, as the loader makes them; what fills no batch is left out.

    Returns:
      The batches, the pairs in each, and how they are packed.
    """
    names = {"inputs": lengths[0], "targets": lengths[1]}
    segments = [
        Segment(inputs, targets, task_id, number)
        for number, pair in enumerate(examples)
        for task_id, (inputs, targets) in zip((TASK_IDS["label"], TASK_IDS["rationale"]), pair, strict=True)
    ]
    sizes = np.array([(len(s.inputs), len(s.targets)) for s in segments])
    packed_rows = [[segments[item] for item in row] for row in pack(sizes, lengths)]
    starts = range(0, len(packed_rows) - rows + 1, rows)
    batches, counts = [], []
    for start in starts:
        part = packed_rows[start : start + rows]
        features = [to_features(row, names) for row in part]
        batches.append({name: np.stack([row[name] for row in features]) for name in features[0]})
        counts.append(sum(map(len, part)) / 2)
    return batches, counts, names | {"rows": rows, "updates": len(batches)}
