"""What a training run prints: what it trains on what, how far it is, and what came of it."""

import json
import math
import shlex
import sys
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from distill_jax.checkpoints import orbax
from distill_jax.config import PretrainConfig
from distill_jax.evaluation.significance import share_interval
from distill_jax.training.build import Run
from distill_jax.training.header import header
from distill_jax.training.listener import Listener

SECONDS = 10.0  # between two lines where there is no terminal
WIDE = 100  # columns of a terminal that has room for the loss of each view


def outcome(run: Run) -> dict[str, Any]:
    """The folder of a run that has ended, its best checkpoint, and the commands that go on from there.

    `best` has `step`, the `metric` by which it was chosen, its `score`, and of an accuracy `interval`, Wilson's
    at 95% over `examples` of validation; it is None where nothing was scored.
    """
    config, folder = run.config, shlex.quote(run.config.model_dir)
    best, step = None, "latest"
    if run.validation is not None and orbax.score(config.model_dir, config.train_steps) is not None:
        number, step = orbax.pick_step(config.model_dir, "best"), "best"
        metric, score = orbax.score(config.model_dir, number)
        best = {"step": number, "metric": metric, "score": abs(score)}  # a loss as a score is negative
        if metric == "label_accuracy":
            examples = min(config.eval_examples or math.inf, run.validation.manifest["examples"])
            best |= {"examples": examples, "interval": share_interval(round(score * examples), examples)}
    data = f" --data-dir {shlex.quote(config.data_dir)}" if config.data_dir else ""
    after = [f"eval {folder} --step {step}{data}"]
    after += [f"infer {folder} --step {step} --input FILE", f"serve {folder} --step {step}"]
    if isinstance(config, PretrainConfig):
        after = [f"train TASK --init {folder}{data}"]
    commands = [f"distill-jax {command}" for command in after]
    return {"folder": config.model_dir, "step": config.train_steps, "best": best, "next": commands}


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`, `2.0 days`."""
    for unit, length, form in (("days", 86400, ".1f"), ("h", 3600, ".1f"), ("min", 60, ".0f")):
        if seconds >= 2 * length:
            return f"{seconds / length:{form}} {unit}"
    return f"{seconds:.0f} s"


class Quiet(Listener):
    """Prints nothing; `end` is called once the run is at its last step."""

    run: Run | None = None  # in the first process

    def begin(self, run: Run, step: int) -> None:
        self.run = run

    def end(self) -> None:
        """The run has ended well."""


class JsonLines(Quiet):
    """Prints each event as an object on a line of its own."""

    def begin(self, run: Run, step: int) -> None:
        super().begin(run, step)
        self._print("begin", step, header(run, step))

    def train(
        self, step: int, metrics: Mapping[str, float], tokens_per_second: float, seconds_left: float
    ) -> None:
        speed = {"tokens_per_second": tokens_per_second, "seconds_left": seconds_left}
        self._print("train", step, {**metrics, **speed})

    def validation(self, step: int, scores: Mapping[str, float]) -> None:
        self._print("validation", step, scores)

    def end(self) -> None:
        if self.run is not None:
            self._print("end", self.run.config.train_steps, outcome(self.run))

    def _print(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        finite = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()
        }
        print(json.dumps({"event": event, "step": step, **finite}), flush=True)


class ProgressBar(Quiet):
    """A live bar on a terminal; where there is none, a line at an update, but not within 10 seconds."""

    def __init__(self):
        self._console = Console(stderr=True)
        self._bar, self._printed = None, -math.inf

    def begin(self, run: Run, step: int) -> None:
        """Prints what the run is, and shows the bar."""
        super().begin(run, step)
        for name, text in header(run, step).items():
            print(f"{name:9}{text}", file=sys.stderr)
        self._total = train_steps = run.config.train_steps
        self._whole, self._began = train_steps - step, step
        what = "compiling the first step" if step < train_steps else "trained to its last step before"
        print(what, file=sys.stderr, flush=True)
        if self._console.is_terminal:
            width = 40 if self._console.width >= WIDE else 12
            columns = BarColumn(bar_width=width), MofNCompleteColumn(), TimeRemainingColumn()
            self._bar = Progress(*columns, TextColumn("{task.fields[text]}"), console=self._console)
            self._bar.start()
            self._task = self._bar.add_task("", total=train_steps, completed=step, text="")

    def train(
        self, step: int, metrics: Mapping[str, float], tokens_per_second: float, seconds_left: float
    ) -> None:
        """Shows the latest means; after more than one step also, once, how long the run will take."""
        if self._whole and self._began + 1 < step < self._total:
            each = seconds_left / (self._total - step)
            text = f"time     about {duration(self._whole * each)} for {self._whole:,} steps of {each:.2g} s"
            self._console.print(text, highlight=False, soft_wrap=True)
            self._whole = 0
        losses = [
            f"{name.removesuffix('_loss')} {value:.3f}"
            for name, value in metrics.items()
            if name.endswith("_loss")
        ]
        if self._bar and self._console.width < WIDE:
            losses = []
        text = "  ".join([f"loss {metrics['loss']:.3f}", *losses, f"{tokens_per_second:,.0f} tokens/s"])
        if self._bar:
            self._bar.update(self._task, completed=step, text=text)
        elif step == self._total or time.monotonic() - self._printed >= SECONDS:
            self._printed = time.monotonic()
            print(f"step {step}/{self._total}  {text}  {seconds_left:.0f} s left", file=sys.stderr, flush=True)

    def validation(self, step: int, scores: Mapping[str, float]) -> None:
        """Tells what validation gave: the perplexity of held-out text, or what the best is chosen by."""
        if "text_perplexity" in scores:
            text = f"held-out text: loss {scores['text_loss']:.3f}  perplexity {scores['text_perplexity']:.2f}"
        elif best_by := self.run.task.best_by(scores):
            text = f"validation: {best_by[0]} {abs(best_by[1]):.4f}"
        else:
            return
        self._console.print(f"step {step}/{self._total}  {text}", highlight=False, soft_wrap=True)

    def end(self) -> None:
        """Prints what came of the run, and what to do with it."""
        if self.run is None:
            return
        found = outcome(self.run)
        print(f"{found['folder']}: trained to step {found['step']}", file=sys.stderr)
        if best := found["best"]:
            text = f"best: step {best['step']}, {best['metric']} {best['score']:.4f}"
            if "interval" in best:
                low, high = best["interval"]
                text += f" (95%: {low:.4f} to {high:.4f}, {best['examples']} rows)"
            print(text, file=sys.stderr)
        for command in found["next"]:
            print(f"next: {command}", file=sys.stderr)

    def close(self) -> None:
        """Leaves the terminal as it was."""
        if self._bar:
            self._bar.stop()
