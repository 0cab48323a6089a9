"""Our options under T5X: macros of gin files to the loss, the network, the optimizer and the schedule.

T5X's gin files wire these functions; the options are those of `distill_jax.config`, under the same names.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import gin
import optax
from t5x import optimizers as t5x_optimizers

from distill_jax.config import MethodOptions, ModelOptions, OptimizerOptions, TrainConfig, from_macros
from distill_jax.config.options import default_of
from distill_jax.errors import UserError
from distill_jax.models.t5 import Transformer
from distill_jax.training import methods
from distill_jax.training.losses import Objective

_NETWORK = {*ModelOptions.by_macro()} - {"DROPOUT_RATE"}
_READ = {"MIXTURE_OR_TASK_NAME", "TRAIN_STEPS"}.union(
    *(options.by_macro() for options in (MethodOptions, OptimizerOptions, ModelOptions))
) - {"TEACHER_TOP_K"}
_WIRED = set(  # to T5X's own functions, by the files in gin_configs/t5x
    "BATCH_SIZE CHECKPOINT_PERIOD DATA_FRACTION EVAL_PERIOD INITIAL_CHECKPOINT_PATH KEEP_CHECKPOINTS "
    "LABEL_SOURCE LOSS_CHUNK MICROBATCHES MIXTURE_OR_TASK_MODULE MODEL_DIR NUM_EXAMPLES PACK RANDOM_SEED "
    "TASK_FEATURE_LENGTHS VOCABULARY Z_LOSS".split()
)


def _bound(names: Iterable[str]) -> dict[str, Any]:
    """The values of those macros that a gin file or flag gives; those that name a function are left out."""
    values = {}
    for name in names:
        try:
            value = gin.query_parameter(f"{name}/gin.macro.value")
        except ValueError:  # not bound
            continue
        if not repr(value).startswith("@"):
            values[name] = copy.deepcopy(value)  # gin puts in what %NAME stands for when it copies
    return values


def configuration() -> TrainConfig:
    """Our options as the macros give them.

    Raises:
      UserError: for a value of the wrong kind or range, and for an option of ours that T5X has no place for.
    """
    fields = TrainConfig.by_macro()
    for name, value in _bound(sorted({*fields} - _READ - _WIRED)).items():
        if value != default_of(fields[name]):
            raise UserError(
                f"{name}: T5X has no place for this option: leave it out, or train with distill-jax"
            )
    return from_macros(TrainConfig, _bound(sorted(_READ)), model_dir="-")


def view_weights() -> Mapping[str, float]:
    """The weight of each view's mean loss, by METHOD, ALPHA and VIEW_WEIGHTS."""
    return methods.view_weights(configuration())


def objective() -> Objective:
    """The loss of METHOD, with TEMPERATURE, DIVERGENCE, BETA and CROSS_ENTROPY_WEIGHT.

    Raises:
      UserError: when a macro of our network, such as EMB_DIM, is given beside T5X's network.
    """
    network = repr(gin.query_parameter("NETWORK/gin.macro.value"))
    idle = sorted(_bound(_NETWORK))
    if idle and "settings.network" not in network:
        raise UserError(
            f"{idle[0]}: of our network: give --gin_file=t5x/our_network.gin last, or T5X's model file"
        )
    return methods.make_objective(configuration())


def network() -> Transformer:
    """Our network, by EMB_DIM, NUM_HEADS and the other macros of our model files.

    Raises:
      UserError: when MODEL_FAMILY is none that T5X trains.
    """
    family = configuration().model_family
    if family != "t5":
        raise UserError(f"MODEL_FAMILY {family!r}: T5X trains only t5; train it with distill-jax train")
    return methods.make_model(configuration())


def schedule(given: Any = "linear"):
    """The learning rate by step: SCHEDULE by its name, with LEARNING_RATE and WARMUP_STEPS; or T5X's own."""
    return methods.make_schedule(configuration()) if isinstance(given, str) else given


def optimizer(given: Any = "adamw") -> t5x_optimizers.OptimizerDef | optax.GradientTransformation | None:
    """OPTIMIZER by its name, with SCHEDULE and the other macros; or T5X's own."""
    return methods.make_optimizer(configuration()) if isinstance(given, str) else given
