"""What a run trains, from what, on which rows and devices: what is told when it starts."""

import math
from typing import Any

import jax

from distill_jax.training.build import Run
from distill_jax.training.mesh import describe
from distill_jax.training.start import state_shapes


def size(count: float) -> str:
    """Bytes in GB of 10^9, few ones in MB."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"


def header(run: Run, step: int) -> dict[str, str]:
    """A line each, by its name, of a run that starts at `step`; usual ones fit 80 columns."""
    config, manifest, devices = run.config, run.records.manifest, run.place.mesh.devices
    trained = _count(state_shapes(run.model, run.optimizer, run.lora).params)
    parameters = f"{trained:,} parameters"
    if run.base is not None:
        parameters = f"{_count(run.base.params):,} parameters, adapters of {trained:,}"
    start = "random weights" if config.start is None else config.start
    start = f"step {step:,} of {config.train_steps:,}, resumed" if step else start
    weights = ", ".join(f"{name} {weight:g}" for name, weight in run.view_weights.items())
    pairs, rows = sum(manifest["views"].values()), manifest["rows"]
    epochs = config.train_steps * config.batch_size / rows
    validation = ""
    if run.validation is not None:
        every = min(config.eval_period, config.train_steps)
        validation = f"; validation on {run.validation.manifest['examples']:,} examples every {every:,}"
    parts = f", in {run.microbatches:,} parts" if run.microbatches > 1 else ""
    lines = {
        "student": f"{run.model.config.family}, {parameters}, {run.model.config.dtype}",
        "start": f"{start}; vocabulary of {run.vocabulary.vocab_size:,} ids",
        "method": f"{config.method_name}: {weights}; rate {config.peak_learning_rate:g}, {config.schedule}",
        "rows": f"{rows:,} of {' + '.join(f'{n:,}' for n in run.lengths.values())} tokens: {pairs:,} pairs, "
        f"{manifest['examples']:,} examples",
        "batch": f"{config.batch_size:,} rows: {pairs / rows * config.batch_size:,.0f} pairs, "
        f"{config.batch_size * sum(run.lengths.values()):,} tokens{parts}",
        "steps": f"{config.train_steps:,}: {epochs:,.1f} epochs{validation}",
        "devices": f"{devices.size} x {devices.flat[0].device_kind}, {describe(run.place.mesh.shape)}",
    }
    if run.memory is not None:
        free = "" if run.memory.free is None else f", {size(run.memory.free)} are free"
        lines["memory"] = f"about {size(run.memory.step)} a device{free}"
    return lines | {"folder": config.model_dir}


def _count(params: Any) -> int:
    return sum(math.prod(x.shape) for x in jax.tree.leaves(params))
