"""Which examples of a split are trained on: a nested share of them, and those that pass the filters."""

import collections
import dataclasses
import re
from collections.abc import Callable, Iterator

import numpy as np

from distill_jax.data.schema import Example
from distill_jax.data.sources import Source
from distill_jax.errors import UserError

Numbered = Iterator[tuple[int, Example]]


@dataclasses.dataclass(frozen=True)
class Filters:
    """What an example has to be like; the default lets all pass.

    Attributes:
      agreeing: only examples whose teacher label is right by the task's own metric.
      min_words: of the rationale; 0 for no bound. An example without rationale has 0 words.
      max_words: of the rationale; None for no bound.
      distinct: only the first of the examples whose rationales have the same words, whatever their
        order, case, numbers and punctuation.
    """

    agreeing: bool = False
    min_words: int = 0
    max_words: int | None = None
    distinct: bool = False


def share(source: Source, split: str, fraction: float, count: int | None, seed: int) -> Numbered:
    """(number, example) of a part of a split, in the order of the source.

    The part is the first of a permutation that depends on `seed` alone: smaller parts lie in
    larger ones, and all methods see the same.

    Args:
      source: of the examples.
      split: of the source.
      fraction: of the split's examples; only where `count` is None.
      count: or their number.
      seed: of the permutation.

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
    for number, example in enumerate(source.examples(split)):
        if chosen[number]:
            yield number, example


def _words(rationale: str | None) -> list[str]:
    return re.findall(r"[^\W\d_]+", (rationale or "").lower())


def keep(
    examples: Numbered,
    filters: Filters,
    agrees: Callable[[Example], bool],
    dropped: collections.Counter,
) -> Numbered:
    """The examples that pass; `dropped` counts the others by reason, of several the first.

    Reasons: `teacher_disagrees`, `rationale_too_short`, `rationale_too_long`, `duplicate_rationale`.
    """
    seen: set[int] = set()
    for number, example in examples:
        words = len((example.rationale or "").split())
        if filters.agreeing and not agrees(example):
            dropped["teacher_disagrees"] += 1
        elif words < filters.min_words:
            dropped["rationale_too_short"] += 1
        elif filters.max_words is not None and words > filters.max_words:
            dropped["rationale_too_long"] += 1
        elif filters.distinct and example.rationale is not None and _is_repeated(example.rationale, seen):
            dropped["duplicate_rationale"] += 1
        else:
            yield number, example


def _is_repeated(rationale: str, seen: set[int]) -> bool:
    key = hash(tuple(sorted(_words(rationale))))
    repeated = key in seen
    seen.add(key)
    return repeated
