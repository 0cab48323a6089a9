"""Weak scaling of a student on paper: what a device sends as the devices grow and its rows do not.

Usage: python benchmarks/weak_scaling.py [--model xxl] [--rows 2]; prints a Markdown table. Minutes, CPU only.
"""

import argparse

import gin

from distill_jax import gin_utils
from distill_jax.models.config import T5Config
from distill_jax.plan.devices import get_device
from distill_jax.plan.job import Job
from distill_jax.plan.plan import plan
from distill_jax.training import partitioning

MESHES = ("data=1,fsdp=16,model=4", "data=4,fsdp=16,model=4", "data=1,fsdp=64,model=4")


def main() -> None:
    """Plans every mesh and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="xxl")
    parser.add_argument("--rows", type=int, default=2, help="of each shard of the batch")
    args = parser.parse_args()
    gin_utils.parse([f"--gin_file=models/t5_1_1/{args.model}.gin", "--gin.DTYPE=bfloat16", "--gin.REMAT=full"])
    config = gin.get_configurable(T5Config)()
    kinds = ("all-gather", "all-reduce", "reduce-scatter")
    print("| devices | mesh | rows | state, GiB | " + " | ".join(f"{kind}, GB" for kind in kinds) + end())
    print("|" + " ---: |" * (len(kinds) + 8))
    first = None
    for text in MESHES:
        sizes = partitioning.mesh_sizes(partitioning.parse_mesh(text), partitioning.DEFAULT, 1)
        rows = args.rows * sizes["data"] * sizes["fsdp"]
        found = plan(Job(config, sizes, rows, {"inputs": 1024, "targets": 256}), get_device("tpu-v5p"))
        sent = sum(found.moved.values())
        first = first or sent
        state = (found.memory["parameters"] + found.memory["optimizer"]) / 2**30
        figures = [f"{found.moved[kind] / 1e9:.2f}" for kind in kinds]
        figures += [f"{sent / 1e9:.2f}", f"{sent / first - 1:+.1%}"]
        figures += [f"{found.compile_seconds:.0f}", f"{found.compile_bytes / 2**30:.2f}"]
        print(f"| {found.job.devices} | {text} | {rows} | {state:.2f} | {' | '.join(figures)} |", flush=True)


def end() -> str:
    """The last columns' names."""
    return " | sent, GB | against the first | compiled in, s | compiler, GiB |"


if __name__ == "__main__":
    main()
