"""Peak figures of accelerators, each with the public page that states it."""

import dataclasses

from distill_jax.config.options import nearest
from distill_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Device:
    """One accelerator as JAX sees it.

    Attributes:
      flops: operations a second of bfloat16 matrix products, dense.
      flops_float32: of float32 matrix products at JAX's default precision.
      memory: bytes.
      memory_rate: bytes a second, of that memory.
      link_rate: bytes a second that a device sends over all its fast links together.
      domain: devices that fast links join: a slice of TPUs, a host of GPUs.
      network_rate: bytes a second that a device sends beyond its domain.
      source: where the figures are from.
    """

    flops: float
    flops_float32: float
    memory: float
    memory_rate: float
    link_rate: float
    domain: int
    network_rate: float
    source: str


GIB = 2**30 / 1e9  # GB in a GiB
_TPU = "docs.cloud.google.com/tpu/docs/"
# In TFLOP/s, GB and GB/s. Figures that a page gives for both directions, or with sparsity, are halved. float32:
# at JAX's default precision, where TPUs multiply in one bfloat16 pass and these GPUs in TF32
# (docs.jax.dev/en/latest/201/precision.html).
_TABLE = {
    "tpu-v4": (
        (275, 275, 32 * GIB, 1200, 300, 4096, 3.3),
        f"{_TPU}v4; 6 links of 50 GB/s: arXiv:2304.01433, table 4; network, 81 Tbit/s of 768 hosts of 4 chips: "
        "arXiv:2204.02311, section 4.1",
    ),
    "tpu-v5e": ((197, 197, 16, 819, 200, 256, 3.125), f"{_TPU}v5e; 2 network cards of 100 Gbit/s for 8 chips"),
    "tpu-v5p": ((459, 459, 95 * GIB, 2765, 600, 6144, 6.25), f"{_TPU}v5p; the largest slice has 6,144 chips"),
    "tpu-v6e": ((918, 918, 32 * GIB, 1638, 400, 256, 12.5), f"{_TPU}v6e, {_TPU}tpu7x"),
    "tpu-v7": (
        (2307 / 2, 2307 / 2, 96 * GIB, 7380 / 2, 600 / 2, 2 * 9216, 12.5 / 2),
        f"{_TPU}tpu7x; JAX sees a chip as two devices, each with half of it",
    ),
    "a100-40g": (
        (312, 156, 40, 1555, 300, 8, 25),
        "nvidia.com: data sheets of A100 SXM and DGX A100 (an adapter of 200 Gbit/s for each GPU)",
    ),
    "a100-80g": ((312, 156, 80, 2039, 300, 8, 25), "nvidia.com: data sheets of A100 SXM and DGX A100"),
    "h100": (
        (989.5, 494.5, 80, 3350, 450, 8, 50),
        "nvidia.com: data sheets of H100 SXM and DGX H100 (an adapter of 400 Gbit/s for each GPU)",
    ),
    "h200": ((989.5, 494.5, 141, 4800, 450, 8, 50), "nvidia.com: data sheets of H200 SXM and DGX H200"),
    "b200": (
        (2250, 1100, 180, 8000, 900, 8, 50),
        "nvidia.com: data sheets of HGX B200 and DGX B200 (1,440 GB and 64 TB/s for eight GPUs)",
    ),
}


_UNITS = (1e12, 1e12, 1e9, 1e9, 1e9, 1, 1e9)
DEVICES = {
    name: Device(*(figure * unit for figure, unit in zip(figures, _UNITS, strict=True)), source)
    for name, (figures, source) in _TABLE.items()
}


def get_device(name: str, **changes: float | None) -> Device:
    """A device of the table with some figures replaced, in the units of `Device`; None keeps the table's.

    `flops` replaces the peaks of both kinds of products. Raises UserError for a name that is not in the table.
    """
    if name not in DEVICES:
        hint = nearest(name, DEVICES)
        raise UserError(f"--device {name!r} is not in the table: take one and override its figures; {hint}")
    given = {field: value for field, value in changes.items() if value is not None}
    if "flops" in given:
        given["flops_float32"] = given["flops"]
    return dataclasses.replace(DEVICES[name], **given)
