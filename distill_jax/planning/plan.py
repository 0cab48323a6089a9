"""A plan: what a mesh needs of its devices, whether they have it, and how long a step takes at best."""

import dataclasses
from typing import Any

from distill_jax.errors import UserError
from distill_jax.planning import hlo, search
from distill_jax.planning.compiler import compile_job
from distill_jax.planning.devices import Device
from distill_jax.planning.job import Job
from distill_jax.planning.roofline import Roofline, roofline
from distill_jax.training import mesh as meshes

PROPOSALS = 3
_TRIES = 8  # meshes that are compiled to find these


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a job needs; bytes, operations and seconds are of one device and one step.

    Attributes:
      memory: bytes by use: parameters, optimizer, batch, activations, temporaries, and their `total`.
      flops: of the matrix products.
      moved: bytes that a device sends, by kind of collective.
      fits: whether the total is within the usable memory.
      trained_count: of the parameters those that a step changes, adapters or all.
      compile_bytes: the memory that the compilation took.
    """

    job: Job
    memory: dict[str, float]
    flops: float
    moved: dict[str, float]
    time: Roofline
    fits: bool
    parameter_count: int
    trained_count: int
    compile_seconds: float
    compile_bytes: int

    def device_hours(self, steps: int) -> float:
        """Of a run of so many steps, at best."""
        return steps * self.time.step * self.job.devices / 3600

    def to_json(self, steps: int) -> dict[str, Any]:
        """All of it, for `--json`."""
        figures = dict(vars(self))
        job, time = figures.pop("job"), figures.pop("time")
        seconds = dataclasses.asdict(time) | {"step": time.step, "bound": time.bound}
        place = {"mesh": dict(job.mesh), "devices": job.devices}
        return place | figures | {"seconds": seconds, "device_hours": self.device_hours(steps)}


def plan(job: Job, device: Device) -> Plan:
    """Compiles a job on its mesh, and sums up memory, communication and time.

    Raises UserError when the mesh is not valid, before anything is compiled.
    """
    rules = meshes.table(job.partition)
    meshes.check(job.mesh, rules, job.config, job.batch_size, job.microbatches, job.devices, hosts=1)
    found = compile_job(job)
    operations = [hlo.Collective(**fields) for fields in found["collectives"]]
    memory = {use: found[use] for use in ("parameters", "optimizer", "batch")}
    memory["activations"] = min(found["activations"], found["temporaries"])
    memory["temporaries"] = found["temporaries"] - memory["activations"] + found["not_donated"]
    memory["total"] = sum(memory.values())
    fits = memory["total"] <= search.USABLE * device.memory
    flops, moved = sum(found["flops"].values()), hlo.by_kind(operations)
    time = roofline(found["flops"], found["parameters"] + found["optimizer"], operations, device)
    compilation = [found[name] for name in ("parameter_count", "trained_count", "seconds", "peak_rss")]
    return Plan(job, memory, flops, moved, time, fits, *compilation)


def propose(job: Job, device: Device, devices: int) -> list[Plan]:
    """The best meshes of so many devices that fit, compiled, the fastest first; UserError when none does."""
    fitting, tried = [], 0
    for tried, candidate in enumerate(search.candidates(job, device, devices), 1):
        found = plan(candidate, device)
        if found.fits:
            fitting.append(found)
        if len(fitting) == PROPOSALS or tried == _TRIES:
            break
    if not fitting:
        raise UserError(
            f"no mesh of {devices} device(s) fits (of {tried} compiled): take more devices, more "
            "microbatches, a smaller batch, --remat full, or --optimizer adafactor"
        )
    return sorted(fitting, key=lambda found: (found.time.step, found.time.links))
