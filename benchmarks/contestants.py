"""What a contestant of the training benchmark is."""

import dataclasses
from collections.abc import Callable, Sequence

LEARNING_RATE = 5e-5  # the reference code's


@dataclasses.dataclass
class Contestant:
    """A train step and the batches it takes.

    Attributes:
      step: does the update with the batch of that number, to its end, and gives the loss.
      pairs: in each batch: of a label and a rationale example.
      settings: how it runs, for the results.
    """

    step: Callable[[int], float]
    pairs: Sequence[float]
    settings: dict

    def once(self) -> float:
        """All batches, one update each; the pairs in them."""
        for number in range(len(self.pairs)):
            self.step(number)
        return sum(self.pairs)
