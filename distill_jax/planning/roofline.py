"""From the work of a step to its time at best: the slowest of computing, memory and links."""

import dataclasses
from collections.abc import Iterable

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
        """Which part it is."""
        return max(dataclasses.asdict(self).items(), key=lambda item: item[1])[0]


def roofline(
    flops: float,
    state_bytes: float,
    operations: Iterable[Collective],
    device: Device,
    devices: int,
    model_axis: int,
) -> Roofline:
    """The parts of a step on one device.

    Args:
      flops: of a device.
      state_bytes: parameters and optimizer state of a device: read and written once a step, at least.
      operations: of a device.
      device: its peaks.
      devices: in the mesh.
      model_axis: its innermost axis, which is within a domain of fast links if it fits one.
    """
    links = 0.0
    for operation in operations:
        near = devices <= device.domain or (operation.group == model_axis <= device.domain)
        links += operation.moved / (device.link_rate if near else device.network_rate)
    return Roofline(flops / device.flops, 2 * state_bytes / device.memory_rate, links)
