"""`distill-jax plan`: what a run needs on devices that are not there."""

import argparse
import json

from distill_jax.cli.common import add_command, lengths

GB = 1e9


def _config(args: argparse.Namespace):
    """The model's shape from its gin file, with the flags' changes."""
    import gin

    from distill_jax import gin_utils
    from distill_jax.errors import UserError
    from distill_jax.models.config import T5Config

    name = args.model if "/" in args.model else f"t5_1_1/{args.model}"
    changes = [f"--gin.DTYPE={args.dtype}", f"--gin.REMAT={args.remat}"]
    gin_utils.parse([f"--gin_file=models/{name}.gin", *changes, *args.gin])
    config = gin.get_configurable(T5Config)()
    if config.vocab_size is None:
        raise UserError(
            f"--model {args.model}: its vocabulary decides the number of ids: give --gin.VOCAB_SIZE=N"
        )
    return config


def _job(args: argparse.Namespace):
    """The job, with a mesh of one device where none is given."""
    from distill_jax.planning.job import Job
    from distill_jax.training import mesh as meshes

    mesh = meshes.parse_mesh(args.mesh) if args.mesh else {}
    return Job(
        config=_config(args),
        mesh=meshes.mesh_sizes(mesh, args.partitioning, 1),
        batch_size=args.batch,
        lengths=args.lengths,
        microbatches=args.microbatches,
        optimizer=args.optimizer,
        partition=args.partitioning,
    )


def _plan(args: argparse.Namespace) -> int:
    from distill_jax.errors import UserError
    from distill_jax.planning.devices import get_device
    from distill_jax.planning.plan import plan, propose

    if bool(args.mesh) == bool(args.devices):
        raise UserError("give --mesh (data=8,fsdp=8,model=4), or --devices N to have meshes proposed")
    device = get_device(
        args.device,
        flops=args.peak_tflops and args.peak_tflops * 1e12,
        memory=args.memory_gb and args.memory_gb * 1e9,
        memory_rate=args.memory_gb_per_s and args.memory_gb_per_s * 1e9,
        link_rate=args.link_gb_per_s and args.link_gb_per_s * 1e9,
        network_rate=args.network_gb_per_s and args.network_gb_per_s * 1e9,
    )
    job = _job(args)
    plans = [plan(job, device)] if args.mesh else propose(job, device, args.devices)
    if args.json:
        print(json.dumps([found.to_json(args.steps) for found in plans], indent=2))
    else:
        _print(plans, device, args)
    return 0 if all(found.fits for found in plans) else 1


def _print(plans, device, args: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from distill_jax.training.mesh import describe

    first = plans[0]
    table = Table(
        title=f"{args.model}: {first.parameter_count / 1e6:,.1f} million parameters, {args.batch} rows of "
        f"{args.lengths['inputs']} and {args.lengths['targets']} tokens, {first.job.devices} x {args.device}",
        caption=f"peaks of {args.device}: {device.source}",
    )
    table.add_column("a device, a step")
    for found in plans:
        table.add_column(describe(found.job.mesh), justify="right")

    def row(name: str, value) -> None:
        table.add_row(name, *(value(found) for found in plans))

    for use in first.memory:
        row(f"memory: {use}, GB", lambda found, use=use: f"{found.memory[use] / GB:.3f}")
    limit = device.memory / GB
    row(f"fits in {limit:.1f} GB", lambda found: "yes" if found.fits else "no")
    row("matrix products, TFLOP", lambda found: f"{found.flops / 1e12:.2f}")
    for kind in first.moved:
        if any(found.moved[kind] for found in plans):
            row(f"sent: {kind}, GB", lambda found, kind=kind: f"{found.moved[kind] / GB:.3f}")
    for part in ("compute", "memory", "links"):
        row(f"time at peak: {part}, s", lambda found, part=part: f"{getattr(found.time, part):.3f}")
    row("step at best, s", lambda found: f"{found.time.step:.3f} ({found.time.bound})")
    row(f"{args.steps:,} steps at best, device-hours", lambda found: f"{found.device_hours(args.steps):,.0f}")
    row("compiled in, s", lambda found: f"{found.compile_seconds:.0f}")
    row("compiler's memory, GB", lambda found: f"{found.compile_bytes / GB:.2f}")
    Console(width=max(100, 40 + 24 * len(plans))).print(table)


def add(commands) -> None:
    """Adds the command."""
    plan = add_command(commands, "plan", "memory, communication and time of a run, without devices", _plan)
    plan.add_argument("--model", required=True, help="xxl, or a file of gin_configs/models such as byt5/xl")
    plan.add_argument("--mesh", help="such as data=8,fsdp=8,model=4")
    plan.add_argument("--devices", type=int, help="without --mesh: propose the best three meshes of so many")
    plan.add_argument("--device", default="tpu-v5p", help="such as tpu-v5p, tpu-v5e, h100, a100-80g")
    plan.add_argument("--batch", type=int, required=True, help="rows of a global batch")
    plan.add_argument("--lengths", type=lengths, default=lengths("1024,256"), metavar="INPUTS,TARGETS")
    plan.add_argument("--steps", type=int, default=10_000, help="of the run, for its device-hours")
    plan.add_argument("--microbatches", type=int, default=1)
    plan.add_argument("--optimizer", default="adamw", choices=("adamw", "adafactor"))
    plan.add_argument("--partitioning", default="fully_sharded_tensor_parallel", help="a preset")
    plan.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    plan.add_argument("--remat", default="full", choices=("full", "dots", "none"))
    plan.add_argument("--json", action="store_true")
    peaks = plan.add_argument_group("figures of the device, instead of the table's")
    for flag in ("peak-tflops", "memory-gb", "memory-gb-per-s", "link-gb-per-s", "network-gb-per-s"):
        peaks.add_argument(f"--{flag}", type=float)
