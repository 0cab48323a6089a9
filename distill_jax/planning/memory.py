"""Whether a built run's step fits into the memory that is free, before anything of it is compiled."""

import dataclasses
import math
import pathlib
from typing import Any

import jax

from distill_jax.errors import UserError
from distill_jax.planning import search
from distill_jax.planning.job import Job
from distill_jax.training.build import Memory, Run
from distill_jax.training.header import size

_MEMINFO, _CGROUP = pathlib.Path("/proc/meminfo"), pathlib.Path("/sys/fs/cgroup")


def of_run(run: Run) -> Memory:
    """What a step of a run takes of a device, by an estimate from its sizes, and what is free there.

    Raises:
      UserError: when the estimate is above what is free, unless `check_memory` is off; it names what would do.
    """
    config = run.config
    job = Job(
        config=run.model.config,
        mesh=dict(run.place.mesh.shape),
        batch_size=config.batch_size,
        lengths=run.lengths,
        microbatches=run.microbatches,
        optimizer=config.optimizer,
        loss_chunk=config.loss_chunk,
        partition=config.partitioning,
        lora=run.lora,
    )
    held = 0 if run.base is None else _device_bytes(run.base.params)  # of the estimate, and not free any more
    found = Memory(step=int(search.memory(job) - held), free=free_bytes())
    if config.check_memory and found.free is not None and found.step > found.free:
        raise UserError(_too_much(run, job, found, held))
    return found


def _device_bytes(tree: Any) -> int:
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _too_much(run: Run, job: Job, found: Memory, held: int) -> str:
    """The line that says what is too much, and which split of the batch would do, if any."""
    named, unit = run.config.named, run.place.batch_unit(1)
    splits = [n for n in range(run.microbatches + 1, job.batch_size + 1) if job.batch_size % (n * unit) == 0]
    full = dataclasses.replace(job.config, remat="full")
    ways = (
        (f"{named('microbatches')} {n}{also}", dataclasses.replace(job, config=config, microbatches=n))
        for config, also in ((job.config, ""), (full, f" and {named('remat')} full"))
        for n in splits
    )
    needs = ((way, search.memory(split) - held) for way, split in ways)
    enough = next((f"{way} takes {size(need)}; or " for way, need in needs if need <= found.free), "")
    batch = "batch_size" if run.config.batch_examples is None else "batch_examples"
    return (
        f"a step takes about {size(found.step)} of memory, and {size(found.free)} are free: {enough}lower "
        f"{named(batch)} or {named('task_feature_lengths')}, or take a smaller --model "
        "(--no-check-memory tries it all the same)"
    )


def free_bytes() -> int | None:
    """Bytes that are free on each device of this process, of a CPU its share of the host's; None: not known."""
    devices = jax.local_devices()
    figures = [device.memory_stats() for device in devices]
    if all(figures):
        return min(each["bytes_limit"] - each["bytes_in_use"] for each in figures)
    host = _host_bytes() if devices[0].platform == "cpu" else None
    return None if host is None else host // len(devices)


def _host_bytes() -> int | None:
    """What Linux has to give, and what is left of the container's share of it."""
    if not _MEMINFO.exists():
        return None
    fields = dict(line.split(":") for line in _MEMINFO.read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    limit, used = _CGROUP / "memory.max", _CGROUP / "memory.stat"
    if limit.exists() and (most := limit.read_text().strip()) != "max":
        counts = dict(line.split() for line in used.read_text().splitlines())
        free = min(free, int(most) - int(counts["anon"]))
    return free
