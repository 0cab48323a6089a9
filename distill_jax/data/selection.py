"""Which examples of a split are trained on: a nested share of them, and those that pass the filters."""

import collections
import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from distill_jax.config import PrepareConfig
from distill_jax.data.schema import Example
from distill_jax.data.sources import Source
from distill_jax.errors import UserError

OPTIONS = {  # reason for which `keep` drops an example -> the option that asks for it
    "no_reference_label": "only_agreeing",
    "teacher_disagrees": "only_agreeing",
    "rationale_too_short": "min_rationale_words",
    "rationale_too_long": "max_rationale_words",
    "near_duplicate_rationale": "max_rationale_similarity",
}
PERMUTATIONS = 64  # of a MinHash: its estimate is off by about 1 / sqrt(64)
Numbered = Iterator[tuple[int, Example]]


@dataclasses.dataclass(frozen=True)
class Filters:
    """What an example has to be like; the default lets all pass.

    `max_similarity` drops an example whose rationale is more like an earlier one's than this, by the Jaccard
    index of their word triples as MinHash estimates it (Broder 1997), from 0 to 1. It takes about 2 KB of
    memory for each example that is kept.
    """

    agreeing: bool = False  # only examples whose teacher label is right by the task's own metric
    min_words: int = 0  # of the rationale; an example without one has 0 words
    max_words: int | None = None
    max_similarity: float | None = None

    def __post_init__(self):
        if self.max_similarity is not None and not 0.0 < self.max_similarity < 1.0:
            option = PrepareConfig.named("max_rationale_similarity")
            raise UserError(f"{option} must lie between 0 and 1, got {self.max_similarity}")


def share(source: Source, split: str, fraction: float, count: int | None, seed: int) -> Numbered:
    """(number, example) of a part of a split, in the order of the source.

    The part is the first of a permutation that depends on `seed` alone: smaller parts lie in
    larger ones, and all methods see the same. It has `count` examples, or that `fraction` of the split.

    Raises:
      UserError: when the split has too few examples.
    """
    if fraction == 1.0 and count is None:
        yield from enumerate(source.examples(split))
        return
    size = source.size(split)
    wanted = round(size * fraction) if count is None else count
    if not 0 < wanted <= size:
        raise UserError(f"cannot take {wanted} examples of the {size} there are")
    chosen = np.zeros(size, bool)
    chosen[np.random.default_rng(seed).permutation(size)[:wanted]] = True
    yield from itertools.compress(enumerate(source.examples(split)), chosen)


class _Seen:
    """The rationales so far, to find one that is like them."""

    def __init__(self, max_similarity: float):
        from datasketch import MinHashLSH

        self._max = max_similarity
        self._index = MinHashLSH(threshold=max_similarity, num_perm=PERMUTATIONS)
        self._signatures: list[Any] = []

    def is_repeated(self, rationale: str) -> bool:
        """Whether an earlier one is too much like it; if not, it is one of them from now on."""
        from datasketch import LeanMinHash, MinHash

        words = re.findall(r"\w+", rationale.lower())
        triples = {" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))}
        signature = MinHash(num_perm=PERMUTATIONS)
        signature.update_batch([triple.encode() for triple in triples])
        signature = LeanMinHash(signature)
        near = self._index.query(signature)  # candidates, some of them further away
        if any(self._signatures[key].jaccard(signature) > self._max for key in near):
            return True
        self._index.insert(len(self._signatures), signature)
        self._signatures.append(signature)
        return False


def keep(
    examples: Numbered, filters: Filters, agrees: Callable[[Example], bool], dropped: collections.Counter
) -> Numbered:
    """The examples that pass; `dropped` counts the others by reason of `OPTIONS`, of several the first."""
    seen = None if filters.max_similarity is None else _Seen(filters.max_similarity)
    for number, example in examples:
        words = len((example.rationale or "").split())
        if filters.agreeing and example.label is None:
            dropped["no_reference_label"] += 1
        elif filters.agreeing and not agrees(example):
            dropped["teacher_disagrees"] += 1
        elif words < filters.min_words:
            dropped["rationale_too_short"] += 1
        elif filters.max_words is not None and words > filters.max_words:
            dropped["rationale_too_long"] += 1
        elif seen is not None and example.rationale is not None and seen.is_repeated(example.rationale):
            dropped["near_duplicate_rationale"] += 1
        else:
            yield number, example
