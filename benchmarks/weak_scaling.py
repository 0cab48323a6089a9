"""Weak scaling of a student on paper: what a device sends as the devices grow and its rows do not.

Usage: python -m benchmarks.weak_scaling [--model xxl] [--rows 2]; prints the table of docs/scaling.md.
"""

import argparse

from benchmarks import students
from distill_jax.planning.devices import get_device
from distill_jax.planning.job import Job
from distill_jax.planning.plan import Plan, plan
from distill_jax.training import mesh as meshes

MESHES = tuple(
    dict(zip(("data", "fsdp", "model"), sizes, strict=True)) for sizes in ((1, 16, 4), (4, 16, 4), (1, 64, 4))
)
KINDS = ("all-gather", "all-reduce", "reduce-scatter")
COLUMNS = (
    "devices",
    "mesh",
    "rows",
    "parameters, optimizer",
    *KINDS,
    "sent in all",
    "against the first",
    "compiled",
)


def sent(found: Plan) -> float:
    """Bytes a device sends in a step."""
    return sum(found.moved.values())


def row(found: Plan, first: Plan) -> tuple:
    """A line of the table."""
    job = found.job
    state = found.memory["parameters"] + found.memory["optimizer"]
    return (
        job.devices,
        meshes.describe(job.mesh),
        job.batch_size,
        f"{state / 1e9:.2f} GB",
        *(f"{found.moved[kind] / 1e9:.2f} GB" for kind in KINDS),
        f"{sent(found) / 1e9:.2f} GB",
        f"{sent(found) / sent(first) - 1:+.1%}",
        f"{found.compile_seconds:.0f} s, {found.compile_bytes / 1e9:.2f} GB",
    )


def main() -> None:
    """Plans every mesh and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="xxl")
    parser.add_argument("--rows", type=int, default=2, help="of each shard of the batch")
    args = parser.parse_args()
    config = students.config(args.model, "bfloat16", remat="full", dropout_rate=0.1)
    print(f"| {' | '.join(COLUMNS)} |\n|{' ---: |' * len(COLUMNS)}")
    first = None
    for mesh in MESHES:
        rows = args.rows * mesh["data"] * mesh["fsdp"]
        job = Job(config, mesh, rows, {"inputs": 1024, "targets": 256})
        found = plan(job, get_device("tpu-v5p"))
        first = first or found
        print(f"| {' | '.join(map(str, row(found, first)))} |", flush=True)


if __name__ == "__main__":
    main()
