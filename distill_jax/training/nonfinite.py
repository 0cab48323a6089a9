"""Updates that were skipped because the loss, a gradient or an updated parameter was not finite."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from distill_jax import files
from distill_jax.config import TrainConfig
from distill_jax.errors import UserError


@dataclasses.dataclass
class Guard:
    """Records the examples of every skipped update, and stops the run after too many in a row.

    The lines of `<model_dir>/skipped.jsonl` are `{"step": …, "examples": [ids]}`.

    Attributes:
      limit: skipped updates in a row that are tolerated.
      examples: (step) -> the ids of the examples in its batch.
      write: whether this process writes the file.
      in_a_row: skipped updates up to the last step.
    """

    model_dir: str
    limit: int
    examples: Callable[[int], Sequence[Any]]
    write: bool
    in_a_row: int = 0

    def observe(self, step: int, skipped: bool) -> None:
        """Call it for each step in turn.

        Raises:
          UserError: at the first skipped update beyond the limit.
        """
        self.in_a_row = self.in_a_row + 1 if skipped else 0
        path = pathlib.Path(self.model_dir) / "skipped.jsonl"
        if skipped and self.write:
            files.append_line(path, json.dumps({"step": step, "examples": list(self.examples(step))}))
        if self.in_a_row > self.limit:
            raise UserError(
                f"step {step}: the loss, a gradient or the update was not finite, as in {self.in_a_row} steps "
                f"in a row ({TrainConfig.named('max_skipped_steps')} is {self.limit}): their examples are in "
                f"{path}; look at these, lower the learning rate, or clip gradients. The run resumes from its "
                "last checkpoint"
            )
