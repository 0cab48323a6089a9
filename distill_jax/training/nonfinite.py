"""Updates that were skipped because the loss, a gradient or an updated parameter was not finite."""

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from distill_jax.errors import UserError


class Guard:
    """Records the examples of every skipped update, and stops the run after too many in a row.

    The lines of `<model_dir>/skipped.jsonl` are `{"step": …, "examples": [ids]}`.

    Args:
      model_dir: the run's folder.
      limit: skipped updates in a row that are tolerated.
      examples: (step) -> the ids of the examples in its batch.
      write: whether this process writes the file.
    """

    def __init__(self, model_dir: str, limit: int, examples: Callable[[int], Sequence[Any]], write: bool):
        self._path = pathlib.Path(model_dir) / "skipped.jsonl"
        self._limit = limit
        self._examples = examples
        self._write = write
        self._in_a_row = 0

    def observe(self, step: int, skipped: bool) -> None:
        """Call it for each step in turn.

        Raises:
          UserError: at the first skipped update beyond the limit.
        """
        if not skipped:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        if self._write:
            with self._path.open("a") as file:
                file.write(json.dumps({"step": step, "examples": list(self._examples(step))}) + "\n")
        if self._in_a_row > self._limit:
            raise UserError(
                f"step {step}: the loss, a gradient or the update was not finite, as in {self._in_a_row} steps "
                f"in a row (MAX_SKIPPED_STEPS is {self._limit}): their examples are in {self._path}; look at "
                "these, lower the learning rate, or clip gradients. The run resumes from its last checkpoint"
            )
