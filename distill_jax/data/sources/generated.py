"""Examples made by a function."""

import json
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from distill_jax.data.schema import Example
from distill_jax.data.sources.base import code_of, fingerprint_of
from distill_jax.errors import UserError


class GeneratedSource:
    """Examples made by a function, the same ones for the same parameters.

    All randomness of `generate` (rng, id) comes from `rng`. The splits, of these `sizes`, draw from one stream
    without repeated inputs, so they are disjoint.
    """

    def __init__(
        self, generate: Callable[[np.random.Generator, str], Example], sizes: Mapping[str, int], seed: int = 0
    ):
        self._generate, self._sizes, self._seed = generate, dict(sizes), seed
        self.splits = tuple(sizes)

    def examples(self, split: str) -> Iterator[Example]:
        """Streams a split.

        Raises:
          UserError: when `generate` runs out of new inputs.
        """
        rng = np.random.default_rng(self._seed)
        seen, repeats = set(), 0
        for name, size in self._sizes.items():
            made = 0
            while made < size:
                example = self._generate(rng, f"{name}-{made}")
                if example.input in seen:
                    repeats += 1
                    if repeats > 100 * (made + 100):
                        raise UserError(f"cannot generate {size} different examples for {name}")
                    continue
                seen.add(example.input)
                made += 1
                if name == split:
                    yield example
            if name == split:
                return

    def size(self, split: str) -> int:
        return self._sizes[split]

    def fingerprint(self, split: str) -> str:
        """Hash of the generator's module and parameters."""
        return fingerprint_of(code_of(self._generate), json.dumps([self._seed, self._sizes, split]))

    def where(self, split: str, number: int) -> str:
        return f"generated example {number} of {split}"
