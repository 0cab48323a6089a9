"""From the work of a step to its time at best: the slowest of computing, memory and links."""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from distill_jax.planning.devices import Device
from distill_jax.planning.hlo import Collective


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Seconds of a step that each part takes at peak; they can overlap, at best fully."""

    compute: float
    memory: float
    links: float

    @property
    def step(self) -> float:
        """Seconds of a step if everything overlaps."""
        return max(self.compute, self.memory, self.links)

    @property
    def bound(self) -> str:
        """The part that takes longest."""
        return max(dataclasses.asdict(self).items(), key=lambda item: item[1])[0]


def axis_groups(mesh: Mapping[str, int], axis: str) -> np.ndarray:
    """The groups of devices along an axis of a mesh, int [groups, size].

    Devices are numbered host by host, along the last axis of the mesh first. So neighbours on `model` are
    next to each other, and those on an axis before it as far apart as the product of the sizes behind it.
    """
    devices = np.arange(np.prod(list(mesh.values()))).reshape(list(mesh.values()))
    return np.moveaxis(devices, list(mesh).index(axis), -1).reshape(-1, mesh[axis])


def shares(kind: str, groups: np.ndarray, domain: int) -> tuple[float, float]:
    """Which share of an array a device sends over fast links, and which over the network, in a collective.

    A gather among `n` devices of which `c` are in one domain fetches what the domain lacks once, over the
    network cards of all `c`, (1 - c / n) / c for each, and passes it on over fast links, (c - 1) / c. A
    reduce-scatter is the inverse, an all-reduce both. In an all-to-all each device sends 1 / n to every other.

    Args:
      kind: of `hlo.KINDS`.
      groups: int [groups, n], the devices of each.
      domain: devices that fast links join: those with the same number // `domain`.

    Returns:
      (fast links, network), of the slowest device.
    """
    near = far = 0.0
    for group in np.asarray(groups) // domain:
        n = len(group)
        for c in np.unique(group, return_counts=True)[1].tolist():
            if kind == "collective-permute":
                parts = float(c == n), float(c < n)
            elif kind == "all-to-all":
                parts = (c - 1) / n, (n - c) / n
            else:
                parts = (c - 1) / c, (1 - c / n) / c
            near, far = max(near, parts[0]), max(far, parts[1])
    times = 2 if kind == "all-reduce" else 1
    return times * near, times * far


def link_seconds(kind: str, size: float, groups: np.ndarray, device: Device) -> float:
    """Seconds that a collective over an array of `size` bytes takes at the peak of the links; see `shares`."""
    near, far = shares(kind, groups, device.domain)
    return size * (near / device.link_rate + far / device.network_rate)


def roofline(
    flops: Mapping[str, float], state_bytes: float, operations: Iterable[Collective], device: Device
) -> Roofline:
    """The parts of a step on one device.

    Args:
      flops: of the matrix products of a device, by the type of their operands as HLO names it.
      state_bytes: parameters and optimizer state of a device: read and written once a step, at least.
      operations: the collectives of a step.
    """
    float32 = flops.get("f32", 0.0)
    compute = float32 / device.flops_float32 + (sum(flops.values()) - float32) / device.flops
    links = sum(o.count * link_seconds(o.kind, o.size, o.groups, device) for o in operations)
    return Roofline(compute, 2 * state_bytes / device.memory_rate, links)
