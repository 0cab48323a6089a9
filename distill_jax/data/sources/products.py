"""Examples enumerated rather than drawn: rows of a product of lists, each at most once."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from distill_jax.data.schema import Example
from distill_jax.data.sources.base import code_of, fingerprint_of
from distill_jax.errors import UserError

Parts = Sequence[Sequence[Any]]


class ProductSource:
    """Examples in which classes have the same shares in every split, and no row comes twice.

    A row of a class takes one element of each of that class's lists: a point of their product, drawn without
    repeats. Splits whose lists have a part in common nowhere are therefore disjoint in that part, at any size.
    A split depends on its own size alone, not on the other splits.

    Args:
      write: (id, class, *elements) -> the example; different elements give different inputs.
      parts: (split, class) -> the lists.
      shares: rows of each class in a block; a split is made of shuffled blocks, so that its first n rows too
        have the shares, within a block's rounding.
      sizes: rows of each split.
      seed: of all draws.

    Raises:
      UserError: when a split is asked for more rows than there are; see `limit`.
    """

    def __init__(
        self,
        write: Callable[..., Example],
        parts: Callable[[str, str], Parts],
        shares: Mapping[str, int],
        sizes: Mapping[str, int],
        seed: int = 0,
    ):
        self._write, self._parts, self._shares = write, parts, dict(shares)
        self._sizes, self._seed = dict(sizes), seed
        self.splits = tuple(sizes)
        for split, size in sizes.items():
            if size > self.limit(split):
                raise UserError(
                    f"cannot generate {size:,} different examples for {split}: there are {self.limit(split):,}"
                )

    def limit(self, split: str) -> int:
        """The most rows that a split can have, in whole blocks."""
        spaces = {kind: math.prod(map(len, self._parts(split, kind))) for kind in self._shares}
        return sum(self._shares.values()) * min(spaces[kind] // n for kind, n in self._shares.items())

    def examples(self, split: str) -> Iterator[Example]:
        """Streams a split."""
        rng = np.random.default_rng([self._seed, *split.encode()])
        size = self._sizes[split]
        block = np.repeat(np.arange(len(self._shares)), list(self._shares.values()))
        order = rng.permuted(np.tile(block, (-(-size // len(block)), 1)), axis=1).ravel()[:size]
        rows = []
        for place, kind in enumerate(self._shares):
            parts = self._parts(split, kind)
            shape = tuple(map(len, parts))
            drawn = rng.choice(math.prod(shape), int((order == place).sum()), replace=False)
            rows.append(zip(*(index.tolist() for index in np.unravel_index(drawn, shape)), strict=True))
        kinds = [(kind, self._parts(split, kind)) for kind in self._shares]
        for number, place in enumerate(order.tolist()):
            kind, parts = kinds[place]
            elements = (part[i] for part, i in zip(parts, next(rows[place]), strict=True))
            yield self._write(f"{split}-{number}", kind, *elements)

    def size(self, split: str) -> int:
        return self._sizes[split]

    def fingerprint(self, split: str) -> str:
        """Hash of the modules of `write` and `parts`, and of the parameters."""
        own = json.dumps([self._seed, self._shares, self._sizes[split], split])
        return fingerprint_of(code_of(self._write), code_of(self._parts), own)

    def where(self, split: str, number: int) -> str:
        return f"generated example {number} of {split}"
