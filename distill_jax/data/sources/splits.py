"""Sources made of sources: a validation part held out of train, and several sets as one."""

import itertools
import logging
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from distill_jax.data.schema import Example
from distill_jax.data.sources.base import Source, fingerprint_of, located
from distill_jax.data.sources.columns import content_id
from distill_jax.errors import UserError

logger = logging.getLogger(__name__)


def held_out(rows: int, share: float = 0.1) -> np.ndarray:
    """Which rows the reference code holds out for validation (seed 0): bool [rows].

    The same rows as `datasets.Dataset.train_test_split(test_size=share, seed=0)["test"]`.
    """
    mask = np.zeros(rows, bool)
    mask[np.random.default_rng(0).permutation(rows)[: math.ceil(rows * share)]] = True
    return mask


class HeldOutSource:
    """A `source` without validation split, of whose train rows a share is held out as one.

    Where it has no test split either, the rows held out are the test split too. A single row, of which nothing
    is left to train on, is a UserError.

    Args:
      source: has a train split.
      whole_inputs: hold out a share of the distinct inputs (with their choices), each with all of its rows, so
        that no validation row is in train as well. Where no input comes twice, this is the same split. Where
        all rows have one input, a share of these rows is, which is told.
      share: of the rows, or of the distinct inputs, that are held out.
      advice: what to do about a single row, for the error.
    """

    def __init__(
        self,
        source: Source,
        whole_inputs: bool = False,
        share: float = 0.1,
        advice: str = "give more, or validation data",
    ):
        self.source, self._share, self._advice = source, share, advice
        self.splits = tuple(dict.fromkeys(["train", "validation", "test", *source.splits]))
        self._whole_inputs = whole_inputs
        self._known: tuple[str, np.ndarray] | None = None  # fingerprint of train, and its mask

    def located(self, data_dir=None, teacher=None) -> "HeldOutSource":
        source = located(self.source, data_dir, teacher)
        return HeldOutSource(source, self._whole_inputs, self._share, self._advice)

    def _is_part(self, split: str) -> bool:
        return split in ("train", "validation") or split not in self.source.splits

    def _rows(self, split: str) -> np.ndarray:
        """Numbers of the whole train split's rows that belong to `split`."""
        mask = self._mask() if self._whole_inputs else held_out(self.source.size("train"), self._share)
        return np.flatnonzero(~mask if split == "train" else mask)

    def _mask(self) -> np.ndarray:
        """Which rows are held out with all rows of their input: bool [rows]."""
        fingerprint = self.source.fingerprint("train")
        if self._known is None or self._known[0] != fingerprint:
            inputs: dict[str, int] = {}
            names = (content_id(e.input, e.choices) for e in self.source.examples("train"))
            numbers = np.array([inputs.setdefault(name, len(inputs)) for name in names], np.int64)
            mask = held_out(len(inputs), self._share)[numbers]
            if len(inputs) == 1 < len(numbers):
                told = "warning: %s: all %d rows have this input: those held out repeat those of train"
                logger.warning(told, self.source.where("train", 0), len(numbers))
                mask = held_out(len(numbers), self._share)
            self._known = fingerprint, mask
        return self._known[1]

    def examples(self, split: str) -> Iterator[Example]:
        if not self._is_part(split):
            yield from self.source.examples(split)
            return
        rows = set(self._rows(split).tolist())
        for number, example in enumerate(self.source.examples("train")):
            if number in rows:
                yield example
        if split == "train" and not rows and self.source.size("train"):
            where = self.source.where("train", 0)
            raise UserError(f"{where}: the only row is held out for validation: {self._advice}")

    def size(self, split: str) -> int:
        return len(self._rows(split)) if self._is_part(split) else self.source.size(split)

    def fingerprint(self, split: str) -> str:
        if not self._is_part(split):
            return self.source.fingerprint(split)
        part = "train" if split == "train" else "held out"
        share = [] if self._share == 0.1 else [str(self._share)]
        whole = ["whole inputs"] * self._whole_inputs
        return fingerprint_of(self.source.fingerprint("train"), part, *whole, *share)

    def where(self, split: str, number: int) -> str:
        if not self._is_part(split):
            return self.source.where(split, number)
        return self.source.where("train", int(self._rows(split)[number]))


class ConcatenatedSource:
    """Several sources, one after the other; `parts` has (source, its split) of each part, by split."""

    def __init__(self, parts: Mapping[str, Sequence[tuple[Source, str]]]):
        self._parts = {split: tuple(sources) for split, sources in parts.items()}
        self.splits = tuple(self._parts)

    def located(self, data_dir=None, teacher=None) -> "ConcatenatedSource":
        return ConcatenatedSource(
            {
                split: [(located(source, data_dir, teacher), name) for source, name in sources]
                for split, sources in self._parts.items()
            }
        )

    def examples(self, split: str) -> Iterator[Example]:
        return itertools.chain.from_iterable(source.examples(name) for source, name in self._parts[split])

    def size(self, split: str) -> int:
        return sum(source.size(name) for source, name in self._parts[split])

    def fingerprint(self, split: str) -> str:
        return fingerprint_of(*(source.fingerprint(name) for source, name in self._parts[split]))

    def where(self, split: str, number: int) -> str:
        for source, name in self._parts[split]:
            size = source.size(name)
            if number < size:
                return source.where(name, number)
            number -= size
        raise IndexError(f"{split} has no example {number}")
