"""The meshes worth compiling: an estimate of each from its sizes, before any is compiled."""

import dataclasses
from collections.abc import Iterator

from distill_jax.planning.devices import Device
from distill_jax.planning.job import Job
from distill_jax.planning.roofline import axis_groups, link_seconds
from distill_jax.training import mesh as meshes

# Of a device's memory; the rest is for the runtime and fragmentation.
USABLE = 0.95
_STATE_BYTES = {"adamw": 12, "adafactor": 4.1}  # a parameter, its optimizer state included
# What is kept of a token and layer, by `remat`: residuals, in widths of the stream, and rows of attention
# scores. They give what the CPU's compiler reserves for T5, tiny and small, and SmolLM2-135M, to a third.
_KEPT = {"full": (1, 0), "dots": (8, 1), "none": (16, 3)}


@dataclasses.dataclass(frozen=True)
class Rough:
    """An estimate of a step on one device: seconds, and bytes of memory."""

    seconds: float
    memory: float


def memory(job: Job) -> float:
    """Bytes that a step takes on one device, estimated from the sizes alone; nothing is compiled.

    The state and the gradients, the residuals of the forward pass with the scores of the layer that is
    computed, and the logits of a chunk of the loss.
    """
    config, mesh = job.config, job.mesh
    state = 4 if job.lora else _STATE_BYTES[job.optimizer] + 4  # of adapters little is left beside the weights
    states = config.matrix_parameters() * state / (mesh["fsdp"] * mesh["model"])
    rows = job.batch_size / (mesh["data"] * mesh["fsdp"]) / job.microbatches
    inputs, targets = (rows * job.lengths[name] for name in ("inputs", "targets"))
    whole = sum(job.lengths.values())
    stacks = [(config.num_encoder_layers, inputs, job.lengths["inputs"])]  # layers, tokens, keys of each
    stacks += [(config.num_decoder_layers, targets if config.num_encoder_layers else inputs + targets, whole)]
    width = 2 if config.dtype == "bfloat16" else 4
    residuals, scores = _KEPT[config.remat]
    heads = config.num_heads / mesh["model"]
    activations = sum(
        tokens * width * (layers * residuals * config.emb_dim + (layers * scores + 2) * keys * heads)
        for layers, tokens, keys in stacks
    )
    logits = 3 * 4 * min(targets, job.loss_chunk) * config.vocab_size / mesh["model"]
    return states + activations + logits


def rough(job: Job, device: Device) -> Rough:
    """Estimates time and memory of a step from the sizes alone; good enough to order meshes."""
    config, mesh = job.config, job.mesh
    count = config.matrix_parameters()
    split = mesh["fsdp"] * mesh["model"]
    tokens = job.batch_size * sum(job.lengths.values()) / (mesh["data"] * mesh["fsdp"])
    width = 2 if config.dtype == "bfloat16" else 4
    layers = config.num_encoder_layers + config.num_decoder_layers

    def link(axis: str) -> float:
        return link_seconds("all-gather", 1.0, axis_groups(mesh, axis), device)

    passes = 3 if config.remat == "full" else 2
    peak = device.flops_float32 if config.dtype == "float32" else device.flops
    compute = (passes + 1) * count * tokens / mesh["model"] / peak
    links = (passes * width + 4) * job.microbatches * count / mesh["model"] * link("fsdp")
    links += 2 * 4 * count / split * link("data")
    links += 2 * 2 * passes * layers * tokens * config.emb_dim * width * link("model")
    return Rough(max(compute, links) + 0.1 * min(compute, links), memory(job))


def candidates(job: Job, device: Device, devices: int) -> Iterator[Job]:
    """`job` on every mesh of so many devices that is valid and seems to fit, the fastest first."""
    rules = meshes.table(job.partition)
    valid = meshes.valid_meshes(rules, job.config, job.batch_size, job.microbatches, devices)
    jobs = [dataclasses.replace(job, mesh=mesh) for mesh in valid]
    estimates = [(rough(candidate, device), candidate) for candidate in jobs]
    fitting = [pair for pair in estimates if pair[0].memory < device.memory]
    yield from (candidate for _, candidate in sorted(fitting, key=lambda pair: pair[0].seconds))
