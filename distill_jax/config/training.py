"""Options of a training run: the method's loss, the network, the optimizer, the mesh and the run itself."""

import math
import pathlib
import re
from typing import Any

from distill_jax.config.checking import VerifyOption
from distill_jax.config.data import MethodName, RecordOptions, lengths
from distill_jax.config.network import ModelOptions
from distill_jax.config.options import Options, fixed, option
from distill_jax.errors import UserError

# Options that only some methods read.
ONLY_OF = {
    "alpha": ("step_by_step", "step_by_step_shared", "logit_distillation"),
    "temperature": ("soft_labels", "logit_distillation"),
}


PAPERS_BATCH, PAPERS_STEPS = 64, 10_000  # examples and updates, of Hsieh et al. 2023's code
# Of own data where neither steps nor epochs are given: few steps hardly move a student, and random weights
# learn from the rows alone.
EPOCHS, EPOCHS_FROM_SCRATCH, FEWEST_STEPS = 10, 20, 100


class MethodOptions(MethodName):
    """The method and its loss"""

    alpha: float = fixed(
        0.5,
        "weight of the label loss beside the rationale loss, of step_by_step and logit_distillation",
        minimum=0,
        maximum=1,
    )
    view_weights: dict[str, float] | None = fixed(
        None, "weight of each view's mean loss, instead of the method's", minimum=0, metavar="VIEW=N,…"
    )
    temperature: float = fixed(1.0, "of soft_labels and logit_distillation", above=0)
    divergence: str = fixed(
        "forward_kl", "of logit_distillation", choices=("forward_kl", "reverse_kl", "jensen_shannon")
    )
    beta: float = fixed(0.5, "of jensen_shannon", above=0, below=1)
    cross_entropy_weight: float = fixed(
        0.5, "of cross entropy beside the divergence: soft_labels and logit_distillation", minimum=0, maximum=1
    )
    teacher_checkpoint_path: str | None = fixed(
        None, "white-box teacher of logit_distillation", flags=("teacher-checkpoint",), path=True
    )
    teacher_top_k: int | None = fixed(
        None,
        "run the teacher once and keep its K likeliest next tokens in the records; default beside the student",
        minimum=1,
        metavar="K",
    )


class LoraOptions(Options):
    """Adapters of low rank (LoRA), in place of training all weights"""

    lora_rank: int = fixed(0, "rank of the adapters; 0 trains all weights", minimum=0)
    lora_alpha: float = fixed(16.0, "an adapter counts alpha / rank", above=0)
    lora_targets: tuple[str, ...] = fixed(
        ("attention", "mlp"), "kernels with an adapter: attention, mlp, or regular expressions of their names"
    )


class OptimizerOptions(Options):
    """The optimizer and its learning rate"""

    optimizer: str = fixed("adamw", "adafactor is T5's", choices=("adamw", "adafactor"))
    learning_rate: float | None = fixed(
        None,
        "the schedule's peak; default 5e-5 (adafactor 1e-3) from a checkpoint; from scratch 1e-3, of networks "
        "wider than 512 that much less (adafactor 1e-2)",
        minimum=0,
    )
    schedule: str = fixed(
        "linear",
        "of the learning rate: linear and cosine fall to 0 at the last step",
        choices=("linear", "cosine", "constant", "rsqrt"),
    )
    warmup_steps: int = fixed(0, "steps until the rate is at its peak", minimum=0)
    weight_decay: float = fixed(0.0, "decoupled; of adamw it is times the rate", minimum=0)
    decay_all: bool = fixed(False, "decay norms and biases too")
    adam_b1: float = fixed(0.9, "decay of adamw's first moment", minimum=0, below=1)
    adam_b2: float = fixed(0.999, "decay of adamw's second moment", minimum=0, below=1)
    adam_eps: float = fixed(1e-8, "added to adamw's denominator", above=0)
    adafactor_decay_rate: float = fixed(0.8, "exponent of adafactor's second moment", above=0)
    clip_norm: float | None = fixed(
        None, "largest global norm of the gradients; 0: no clipping; default 1, of adafactor none", minimum=0
    )


class MeshOptions(Options):
    """Devices and memory"""

    mesh: dict[str, int] | None = option(
        None, "devices on data, fsdp, model; -1: those left; default all on one", minimum=-1, metavar="AXIS=N,…"
    )
    partitioning: str | tuple = option(
        "fully_sharded_tensor_parallel", "a preset or a table of what is sharded over which axis"
    )
    microbatches: int | None = option(
        None,
        "gradient accumulation: parts of a batch, to save memory; default 1, on a CPU parts of 2,048 tokens",
        minimum=1,
    )
    loss_chunk: int = option(2048, "tokens whose logits a shard of the batch holds at once", minimum=1)
    check_memory: bool = option(True, "refuse a step that by an estimate needs more memory than is free")


class RunOptions(VerifyOption):
    """The run"""

    model_dir: str = option(
        "", "folder of the run; default runs/TASK_METHOD, of own data runs/FILE_METHOD", path=True
    )
    train_steps: int = option(
        PAPERS_STEPS, "updates, those before a restart included", flags=("steps",), minimum=1
    )
    epochs: float | None = option(None, "passes over the training rows, in place of --steps", above=0)
    batch_size: int = fixed(64, "rows of a global batch (packed rows)", minimum=1)
    batch_examples: int | None = fixed(
        None,
        "examples of a global batch on average, as the paper's code counts them: sets BATCH_SIZE to the number "
        "of packed rows that hold about as many; default the paper's 64, unless BATCH_SIZE is given",
        minimum=1,
    )
    z_loss: float = fixed(0.0, "factor of log(Z)**2 per token", minimum=0)
    max_skipped_steps: int = option(
        10, "updates in a row that may be skipped because the loss or a gradient was not finite", minimum=0
    )
    log_period: int = option(10, "steps between two lines of metrics", minimum=1)
    eval_period: int = option(250, "steps between evaluations of the validation split; 0 for none", minimum=0)
    eval_examples: int | None = option(None, "validation examples to decode; default all", minimum=1)
    checkpoint_period: int = option(250, "steps between checkpoints; the last step always has one", minimum=1)
    keep_checkpoints: int | None = option(3, "the latest to keep; None keeps all", minimum=1)
    keep_best_checkpoints: int = option(1, "the best by validation to keep beside those", minimum=0)
    wandb: str | None = option(None, "Weights & Biases project for the metrics too", metavar="PROJECT")
    mlflow: str | None = option(
        None, "MLflow server or folder for the metrics too", metavar="URI", guarded="where metrics are sent"
    )


class PrintOptions(Options):
    """What is printed"""

    quiet: bool = option(False, "print warnings and errors alone")
    json: bool = option(False, "print each event as a JSON object on a line of its own, to standard output")


class TrainerOptions(PrintOptions, RunOptions, MeshOptions, OptimizerOptions, LoraOptions, ModelOptions):
    """What any training run has, whatever it is trained on"""

    @property
    def peak_learning_rate(self) -> float:
        """The schedule's peak: as given, else what suits the optimizer and the start.

        Fine-tuning: of adamw that of Hsieh et al. 2023's code, of adafactor T5's (Raffel et al. 2020, section
        3.1.2). From scratch: of adafactor T5's in pretraining; of adamw about those of Brown et al. 2020
        (arXiv:2005.14165), table 2.1, which fall with the width.
        """
        if self.learning_rate is not None:
            return self.learning_rate
        if self.optimizer == "adafactor":
            return 1e-2 if self.start is None else 1e-3
        return 1e-3 * min(1.0, 512 / self.emb_dim) if self.start is None else 5e-5

    @property
    def examples_per_batch(self) -> int | None:
        """`batch_examples`, or the paper's 64; None where `batch_size` decides the rows of a batch."""
        return self.batch_examples or (PAPERS_BATCH if self.batch_size is None else None)

    def steps_of(self, rows: int) -> int:
        """The updates of a run over so many packed rows in batches of `batch_size`."""
        an_epoch = rows / self.batch_size
        if self.epochs is not None:
            return math.ceil(self.epochs * an_epoch)
        if self.train_steps is not None:
            return self.train_steps
        epochs = EPOCHS_FROM_SCRATCH if self.start is None else EPOCHS
        return min(max(math.ceil(epochs * an_epoch), FEWEST_STEPS), PAPERS_STEPS)

    def identity(self) -> dict[str, Any]:
        """See `Options.identity`; the rate by its number, also where it is the default."""
        return super().identity() | {"learning_rate": self.peak_learning_rate}


class TrainConfig(TrainerOptions, MethodOptions, RecordOptions):
    """Train a student"""

    task_feature_lengths: dict[str, int] | None = lengths(
        None,
        "tokens of a packed row; default room for 8 mean examples, and for 99 of 100 whole, up to 1024,256",
        identity=True,
    )
    batch_size: int | None = fixed(
        None, "rows of a global batch (packed rows); default as many as hold --batch-examples", minimum=1
    )
    train_steps: int | None = option(
        None,
        f"updates, those before a restart included; default {PAPERS_STEPS}, of --data as many as are {EPOCHS} "
        f"epochs, from scratch {EPOCHS_FROM_SCRATCH}, but from {FEWEST_STEPS} to {PAPERS_STEPS}",
        flags=("steps",),
        minimum=1,
    )

    def verify(self) -> None:
        """There must be something to train on; a task has the paper's number of updates."""
        if not (self.data or self.mixture_or_task_name):
            raise UserError(
                f"no value for {self.named('mixture_or_task_name')}: give a task, such as svamp "
                f"(distill-jax data list), or your own data with {self.named('data')}"
            )
        if not self.model_dir:
            file = re.sub(r"\W+", "_", pathlib.Path((self.data or "").rpartition(":")[2]).stem)
            object.__setattr__(self, "model_dir", f"runs/{self.mixture or f'{file}_{self.method_name}'}")
        if self.train_steps is None and not self.data:
            object.__setattr__(self, "train_steps", PAPERS_STEPS)
