"""How long a packed row has to be for a task's own examples."""

import collections
import itertools
from collections.abc import Sequence

import numpy as np

from distill_jax.data.prepare import WINDOW
from distill_jax.data.task import DistillationTask
from distill_jax.data.tokenization import new_counts, tokenize
from distill_jax.data.views import View
from distill_jax.data.vocabularies import Vocabulary

LONGEST = {"inputs": 1024, "targets": 256}  # where Hsieh et al. 2023's code cuts
MULTIPLE = 8
SHARE = 99  # percent of the examples that are not cut
EXAMPLES = 8  # that a row has room for on average: one of a single long example would be half empty with others
_UNCUT = {"inputs": 1 << 30, "targets": 1 << 30}


def row_lengths(
    task: DistillationTask, views: Sequence[View], vocabulary: Vocabulary, pack: bool = True
) -> dict[str, int]:
    """`{"inputs": …, "targets": …}` that hold 99 of 100 train examples in each view, up to `LONGEST`.

    Lengths are in tokens with the end token, rounded up to a multiple of 8. All rows count, so that every share
    of the data has the same. Soft labels, which are never cut, are all held. With `pack` there is room for
    `EXAMPLES` mean examples.
    """
    sizes: dict[tuple[int, ...], list[tuple[int, int]]] = collections.defaultdict(list)
    is_soft = any(view.soft for view in views)
    examples, counts = enumerate(task.source.examples("train")), new_counts(views)
    while window := list(itertools.islice(examples, WINDOW)):
        for group in tokenize(window, views, vocabulary, _UNCUT, counts, task.classes):
            size = sum(len(part.inputs) for part in group), sum(len(part.targets) for part in group)
            sizes[tuple(part.task_id for part in group)].append(size)
    held = [
        np.percentile(of_view, 100 if is_soft else SHARE, axis=0, method="higher") for of_view in sizes.values()
    ]
    needed = np.max([(2, 2), *held], axis=0)
    if pack and sizes:
        mean = np.minimum(np.concatenate(list(sizes.values())), needed).mean(axis=0)
        needed = np.maximum(needed, np.ceil(EXAMPLES * mean))
    lengths = {}
    for side, tokens in zip(("inputs", "targets"), needed, strict=True):
        rounded = -(-int(tokens) // MULTIPLE) * MULTIPLE
        lengths[side] = rounded if is_soft and side == "targets" else min(rounded, LONGEST[side])
    return lengths
