"""The progress bar of a training run: step, losses, tokens/s and the time left."""

import math
import sys
from collections.abc import Mapping
from typing import Any

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from distill_jax.training.build import Run
from distill_jax.training.listener import Listener
from distill_jax.training.mesh import describe
from distill_jax.training.start import state_shapes


def summary(run: Run, step: int) -> dict[str, str]:
    """What a run that starts at `step` trains, from what, on which rows and devices: a line each."""
    trained = _count(state_shapes(run.model, run.optimizer, run.lora).params)
    size = f"{trained:,} parameters"
    if run.base is not None:
        size = f"{_count(run.base.params):,} parameters, adapters of {trained:,}"
    start = "random weights" if run.config.start is None else run.config.start
    manifest, devices = run.records.manifest, run.place.mesh.devices
    validation = f"; {run.validation.manifest['examples']:,} for validation" if run.validation else ""
    return {
        "student": f"{run.model.config.family}, {size}, {run.model.config.dtype}",
        "start": f"resumes from step {step:,} of {run.config.train_steps:,}" if step else start,
        "rows": f"{manifest['rows']:,} of {' + '.join(map(str, run.lengths.values()))} tokens, "
        f"{manifest['examples']:,} examples{validation}",
        "vocabulary": f"{run.vocabulary.vocab_size:,} ids, {run.vocabulary.fingerprint}",
        "devices": f"{devices.size} x {devices.flat[0].device_kind}, {describe(run.place.mesh.shape)}",
        "folder": run.config.model_dir,
    }


def _count(params: Any) -> int:
    return sum(math.prod(x.shape) for x in jax.tree.leaves(params))


class ProgressBar(Listener):
    """A live bar on a terminal; where there is none, a plain line at each update."""

    def __init__(self):
        self._console = Console(stderr=True)
        self._bar = None

    def begin(self, run: Run, step: int) -> None:
        """Prints what the run is, and shows the bar."""
        for name, text in summary(run, step).items():
            print(f"{name:12}{text}", file=sys.stderr)
        print("compiling the first step", file=sys.stderr, flush=True)
        self._total = train_steps = run.config.train_steps
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
