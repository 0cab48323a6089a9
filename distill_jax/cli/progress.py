"""The progress bar of a training run: step, losses, tokens/s and the time left."""

import sys
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from distill_jax.training.listener import Listener


class ProgressBar(Listener):
    """A live bar on a terminal; where there is none, a plain line at each update."""

    def __init__(self):
        self._console = Console(stderr=True)
        self._bar = None

    def begin(self, step: int, train_steps: int) -> None:
        """Shows the bar."""
        self._total = train_steps
        if self._console.is_terminal:
            columns = TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
            self._bar = Progress(*columns, TextColumn("{task.fields[text]}"), console=self._console)
            self._bar.start()
            self._task = self._bar.add_task("", total=train_steps, completed=step, text="")

    def train(
        self, step: int, metrics: Mapping[str, float], tokens_per_second: float, seconds_left: float
    ) -> None:
        """Shows the latest means."""
        losses = "  ".join(
            f"{name.removesuffix('_loss')} {value:.3f}"
            for name, value in metrics.items()
            if name.endswith("_loss")
        )
        text = f"loss {metrics['loss']:.3f}  {losses}  {tokens_per_second:,.0f} tokens/s"
        if self._bar:
            self._bar.update(self._task, completed=step, text=text)
        else:
            print(f"step {step}/{self._total}  {text}  {seconds_left:.0f} s left", file=sys.stderr, flush=True)

    def validation(self, step: int, scores: Mapping[str, float]) -> None:
        """Tells the perplexity of held-out text, where there is one."""
        if "text_perplexity" in scores:
            loss, perplexity = scores["text_loss"], scores["text_perplexity"]
            text = f"step {step}/{self._total}  held-out text: loss {loss:.3f}  perplexity {perplexity:.2f}"
            self._console.print(text, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Leaves the terminal as it was."""
        if self._bar:
            self._bar.stop()
