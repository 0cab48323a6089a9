"""`distill-jax plan` and `models`: what a run needs on devices that are not there, and the models there are."""

import dataclasses

from distill_jax.cli.common import command, print_json
from distill_jax.config import ModelsConfig, PlanConfig
from distill_jax.errors import Status

GB = 1e9


@command("plan", "memory, communication and time of a run, without devices")
def _plan(config: PlanConfig) -> int:
    from distill_jax.models.families import make_config
    from distill_jax.planning.devices import get_device
    from distill_jax.planning.job import Job
    from distill_jax.planning.plan import plan, propose
    from distill_jax.training.adapters import lora_of
    from distill_jax.training.mesh import mesh_sizes

    device = get_device(
        config.device,
        flops=config.peak_tflops and config.peak_tflops * 1e12,
        memory=config.memory_gb and config.memory_gb * 1e9,
        memory_rate=config.memory_gb_per_s and config.memory_gb_per_s * 1e9,
        link_rate=config.link_gb_per_s and config.link_gb_per_s * 1e9,
        network_rate=config.network_gb_per_s and config.network_gb_per_s * 1e9,
    )
    job = Job(
        config=make_config(config.shape),
        mesh=mesh_sizes(config.mesh or {}, config.partitioning, 1),
        batch_size=config.batch_size,
        lengths=config.task_feature_lengths,
        microbatches=config.microbatches,
        optimizer=config.optimizer,
        partition=config.partitioning,
        lora=lora_of(config),
    )
    plans = [plan(job, device)] if config.mesh else propose(job, device, config.devices)
    if config.json:
        print_json([each.to_json(config.train_steps) for each in plans])
    else:
        _print(plans, device, config)
    return Status.DONE if all(each.fits for each in plans) else Status.FAILED


def _print(plans, device, config: PlanConfig) -> None:
    from rich.table import Table

    from distill_jax.experiments.console import console
    from distill_jax.training.mesh import describe

    first = plans[0]
    inputs, targets = config.task_feature_lengths.values()
    table = Table(
        title=f"{first.parameter_count / 1e6:,.1f} million parameters, {config.batch_size} rows of "
        f"{inputs} and {targets} tokens, {first.job.devices} x {config.device}",
        caption=f"peaks of {config.device}: {device.source}",
    )
    table.add_column("a device, a step")
    for each in plans:
        table.add_column(describe(each.job.mesh), justify="right")

    def row(name: str, value) -> None:
        table.add_row(name, *(value(each) for each in plans))

    if first.trained_count != first.parameter_count:
        row("million parameters in adapters", lambda each: f"{each.trained_count / 1e6:.3f}")
    for use in first.memory:
        row(f"memory: {use}, GB", lambda each, use=use: f"{each.memory[use] / GB:.3f}")
    limit = device.memory / GB
    row(f"fits in {limit:.1f} GB", lambda each: "yes" if each.fits else "no")
    row("matrix products, TFLOP", lambda each: f"{each.flops / 1e12:.2f}")
    for kind in first.moved:
        if any(each.moved[kind] for each in plans):
            row(f"sent: {kind}, GB", lambda each, kind=kind: f"{each.moved[kind] / GB:.3f}")
    for part in ("compute", "memory", "links"):
        row(f"time at peak: {part}, s", lambda each, part=part: f"{getattr(each.time, part):.3f}")
    row("step at best, s", lambda each: f"{each.time.step:.3f} ({each.time.bound})")
    hours = f"{config.train_steps:,} steps at best, device-hours"
    row(hours, lambda each: f"{each.device_hours(config.train_steps):,.0f}")
    row("compiled in, s", lambda each: f"{each.compile_seconds:.0f}")
    row("compiler's memory, GB", lambda each: f"{each.compile_bytes / GB:.2f}")
    console(width=max(100, 40 + 24 * len(plans))).print(table)


@command("models", "the models that --model knows: size, licence, checkpoint, memory")
def _models(config: ModelsConfig) -> int:
    from distill_jax.planning.presets import LENGTHS, ROWS, presets

    found = presets()
    if config.json:
        print_json([dataclasses.asdict(each) for each in found])
        return 0
    from rich.table import Table

    from distill_jax.experiments.console import console

    inputs, targets = LENGTHS.values()
    table = Table(
        caption=f"memory: {ROWS} rows of {inputs} and {targets} tokens on a device, float32, adamw; estimated: "
        "distill-jax plan --model NAME compiles the step"
    )
    for column in ("--model", "family", "licence", "public checkpoint"):
        table.add_column(column, no_wrap=True)
    for column in ("parameters", "train, GB", "serve, GB"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in found:
        sizes = (
            f"{each.parameters / 1e6:,.1f} M",
            f"{each.train_bytes / GB:,.1f}",
            f"{each.serve_bytes / GB:,.2f}",
        )
        start = (each.licence or "-", each.checkpoint or "from scratch")
        table.add_row(each.name, each.family, *start, *sizes)
    console(width=150).print(table)
    return 0
