"""How long a packed row has to be for a task's own examples."""

import collections
import dataclasses
import itertools
import json
import pathlib
from collections.abc import Sequence

import numpy as np

from distill_jax import files
from distill_jax.data import cache
from distill_jax.data.prepare import FORMAT, WINDOW, hash_of
from distill_jax.data.task import DistillationTask
from distill_jax.data.tokenization import new_counts, tokenize
from distill_jax.data.views import View
from distill_jax.data.vocabularies import Vocabulary

LONGEST = {"inputs": 1024, "targets": 256}  # where Hsieh et al. 2023's code cuts
MULTIPLE = 8
SHARE = 99  # percent of the examples that are not cut
EXAMPLES = 8  # that a row has room for on average: one of a single long example would be half empty with others
_NAME = "lengths.json"
_UNCUT = {"inputs": 1 << 30, "targets": 1 << 30}


def row_lengths(
    task: DistillationTask, views: Sequence[View], vocabulary: Vocabulary, pack: bool = True
) -> dict[str, int]:
    """`{"inputs": …, "targets": …}` that hold 99 of 100 train examples in each view, up to `LONGEST`.

    Lengths are in tokens with the end token, rounded up to a multiple of 8. All rows count, so that every share
    of the data has the same. Soft labels, which are never cut, are all held. With `pack` there is room for
    `EXAMPLES` mean examples.

    What was measured is kept in the cache: every start of a run asks for it, and it takes a pass over the rows.
    """
    measured = {
        "data": task.source.fingerprint("train"),
        "views": [dataclasses.asdict(view) for view in views],
        "classes": task.classes,
        "vocabulary": vocabulary.fingerprint,
        "pack": pack,
        "rule": [FORMAT, LONGEST, MULTIPLE, SHARE, EXAMPLES],
    }

    def make(folder: pathlib.Path) -> None:
        files.write_text(folder / _NAME, json.dumps(_measure(task, views, vocabulary, pack)) + "\n")

    folder = cache.made(cache.cache_dir() / "row_lengths" / hash_of(measured), make)
    return json.loads(files.read_text(folder / _NAME))


def _measure(
    task: DistillationTask, views: Sequence[View], vocabulary: Vocabulary, pack: bool
) -> dict[str, int]:
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
