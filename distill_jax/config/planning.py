"""Options of `plan`, `models` and `demo`."""

from distill_jax.config.data import lengths
from distill_jax.config.options import REQUIRED, JsonOption, Options, option
from distill_jax.config.training import LoraOptions, ModelOptions
from distill_jax.errors import UserError


class DeviceOptions(Options):
    """Figures of the device, instead of the table's"""

    peak_tflops: float | None = option(None, "matrix products", above=0)
    memory_gb: float | None = option(None, "size of the memory", above=0)
    memory_gb_per_s: float | None = option(None, "rate of the memory", above=0)
    link_gb_per_s: float | None = option(None, "rate of the links between devices of a host or slice", above=0)
    network_gb_per_s: float | None = option(None, "rate of the network between hosts", above=0)


class PlanConfig(JsonOption, DeviceOptions, LoraOptions, ModelOptions):
    """The step that is planned"""

    mesh: dict[str, int] | None = option(None, "such as data=8,fsdp=8,model=4", minimum=1, metavar="AXIS=N,…")
    devices: int | None = option(None, "without --mesh: propose the best three meshes of so many", minimum=1)
    device: str = option("tpu-v5p", "such as tpu-v5p, tpu-v5e, h100, a100-80g")
    batch_size: int = option(REQUIRED, "rows of a global batch", flags=("batch",), minimum=1)
    task_feature_lengths: dict[str, int] = lengths({"inputs": 1024, "targets": 256}, "tokens of a row")
    train_steps: int = option(10_000, "of the run, for its device-hours", flags=("steps",), minimum=1)
    microbatches: int = option(1, "gradient accumulation", minimum=1)
    optimizer: str = option("adamw", "adafactor is T5's", choices=("adamw", "adafactor"))
    partitioning: str | tuple = option("fully_sharded_tensor_parallel", "a preset or a table")
    dtype: str = option("bfloat16", "of activations and matrix products", choices=("bfloat16", "float32"))
    remat: str = option("full", "what the backward pass computes again", choices=("full", "dots", "none"))

    def verify(self) -> None:
        """Either a mesh, or devices to find one for."""
        if bool(self.mesh) == bool(self.devices):
            raise UserError("give --mesh (data=8,fsdp=8,model=4), or --devices N to have meshes proposed")
        if self.vocab_size is None:
            raise UserError("the model's vocabulary decides the number of ids: give --vocab-size N")


class ModelsConfig(JsonOption):
    """The list of models"""


class DemoConfig(Options):
    """The demo"""

    task: str = option("entailment", "an embedded task")
    seeds: int = option(1, "repeat over so many seeds", minimum=1)
    with_teacher: bool = option(False, "train a teacher too, serve it, annotate with it over HTTP, distil it")
    output: str | None = option(None, "for report.html and results.json; default demo, or demo/with-teacher")
