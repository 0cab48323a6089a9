"""What a training run tells while it lasts; nothing in `training` prints."""

from collections.abc import Mapping
from typing import Any


class Listener:
    """Called in the first process of a run; the methods of this base class do nothing."""

    def begin(self, run: Any, step: int) -> None:
        """A run, `build.Run`, starts at `step`, 0 unless it resumes; its first step is compiled next."""

    def train(
        self, step: int, metrics: Mapping[str, float], tokens_per_second: float, seconds_left: float
    ) -> None:
        """Means of the training metrics since the last call."""

    def validation(self, step: int, scores: Mapping[str, float]) -> None:
        """Metrics of the validation split."""

    def close(self) -> None:
        """The run is over, or stopped."""
