"""The progress bar of a run: step, losses, tokens/s and the time left."""

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressBar:
    """A live bar on a terminal; where there is none, a plain line at each update."""

    def __init__(self, total_steps: int, start_step: int = 0):
        self._console = Console(stderr=True)
        self._total = total_steps
        self._bar = None
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("training"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[text]}"),
                console=self._console,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=total_steps, completed=start_step, text="")

    def update(self, step: int, metrics: dict[str, float], tokens_per_second: float, left: float):
        """Shows the latest means; `left` is the estimate of the seconds to the end."""
        losses = "  ".join(
            f"{name.removesuffix('_loss')} {value:.3f}"
            for name, value in metrics.items()
            if name.endswith("_loss")
        )
        text = f"loss {metrics['loss']:.3f}  {losses}  {tokens_per_second:,.0f} tokens/s"
        if self._bar:
            self._bar.update(self._task, completed=step, text=text)
        else:
            print(f"step {step}/{self._total}  {text}  {left:.0f} s left", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leaves the terminal as it was."""
        if self._bar:
            self._bar.stop()
