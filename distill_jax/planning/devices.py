"""Peak figures of accelerators, as their makers publish them."""

import dataclasses

from distill_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Device:
    """One accelerator as JAX sees it.

    Attributes:
      flops: bfloat16 operations a second, dense.
      memory: bytes.
      memory_rate: bytes a second, of that memory.
      link_rate: bytes a second that leave a device over all its fast links together.
      domain: devices that these links join.
      network_rate: bytes a second for each device beyond the domain.
    """

    flops: float
    memory: float
    memory_rate: float
    link_rate: float
    domain: int
    network_rate: float


GB = 1e9
GIB = 2**30
# TPUs: cloud.google.com/tpu/docs (v4, v5e, v5p, v6e); interchip bandwidth one way, all links of a chip;
# beyond the slice the data center network.
# GPUs: NVIDIA's data sheets of A100 and H100 SXM; NVLink one way, eight to a node; beyond it an adapter of 200
# or 400 Gbit/s for each.
DEVICES = {
    "tpu-v4": Device(275e12, 32 * GIB, 1228 * GB, 300 * GB, 4096, 3.1 * GB),
    "tpu-v5e": Device(197e12, 16 * GB, 819 * GB, 200 * GB, 256, 3.1 * GB),
    "tpu-v5p": Device(459e12, 95 * GIB, 2765 * GB, 600 * GB, 6144, 6.2 * GB),
    "tpu-v6e": Device(918e12, 32 * GB, 1600 * GB, 400 * GB, 256, 12.5 * GB),
    "a100-40g": Device(312e12, 40 * GB, 1555 * GB, 300 * GB, 8, 25 * GB),
    "a100-80g": Device(312e12, 80 * GB, 2039 * GB, 300 * GB, 8, 25 * GB),
    "h100": Device(989e12, 80 * GB, 3350 * GB, 450 * GB, 8, 50 * GB),
}


def get_device(name: str, **changes: float | None) -> Device:
    """A device of the table, with some figures replaced; None leaves one as it is.

    Raises:
      UserError: for a name that is not in the table.
    """
    if name not in DEVICES:
        raise UserError(f"--device {name!r} is none of {', '.join(DEVICES)}: take one and override its figures")
    given = {field: value for field, value in changes.items() if value is not None}
    return dataclasses.replace(DEVICES[name], **given)
