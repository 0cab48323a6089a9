"""What a configuration says of the network, the loss and the optimizer, as objects."""

from collections.abc import Mapping

import optax

from distill_jax.config import PretrainConfig, TrainConfig
from distill_jax.models.families import Network, make_config, make_network
from distill_jax.training import losses, optimizers, schedules
from distill_jax.training.losses import CrossEntropy, LogitDistillation, Objective, SoftLabels
from distill_jax.training.programs import remembered


def make_model(config: TrainConfig | PretrainConfig) -> Network:
    """The network; its `vocab_size` may be open (None)."""
    return make_network(make_config(config.shape))


def view_weights(config: TrainConfig | PretrainConfig) -> Mapping[str, float]:
    """The weight of each view's mean loss: as given, else the method's."""
    if config.view_weights is not None:
        return config.view_weights
    if config.method_name in ("step_by_step", "step_by_step_shared", "logit_distillation"):
        return losses.step_by_step_weights(config.alpha)
    return losses.single_task_weights() if config.method_name == "single_task" else losses.standard_weights()


def make_objective(config: TrainConfig | PretrainConfig) -> Objective:
    """The loss of the method; a white-box teacher is put in by `build`."""
    if config.method_name == "soft_labels":
        return SoftLabels(temperature=config.temperature, cross_entropy_weight=config.cross_entropy_weight)
    if config.method_name == "logit_distillation":
        options = {name: getattr(config, name) for name in ("temperature", "beta", "cross_entropy_weight")}
        return LogitDistillation(kind=config.divergence, **options)
    return CrossEntropy()


def make_schedule(config: TrainConfig | PretrainConfig) -> optax.Schedule:
    """The learning rate by step."""
    arguments = {"learning_rate": config.peak_learning_rate, "warmup_steps": config.warmup_steps}
    if config.schedule in ("linear", "cosine"):
        arguments["total_steps"] = config.train_steps
    return _named(schedules, config.schedule, **arguments)


@remembered
def _named(module, name: str, *args, **options):
    """One object for equal arguments: the programs it is compiled into serve the next run."""
    return getattr(module, name)(*args, **options)


def make_optimizer(config: TrainConfig | PretrainConfig) -> optax.GradientTransformation:
    """The optimizer with its schedule."""
    common = {"weight_decay": config.weight_decay, "decay_all": config.decay_all}
    if config.clip_norm is not None:
        common["clip_norm"] = config.clip_norm or None
    if config.optimizer == "adafactor":
        common["decay_rate"] = config.adafactor_decay_rate
    else:
        common |= {"b1": config.adam_b1, "b2": config.adam_b2, "eps": config.adam_eps}
    return _named(optimizers, config.optimizer, make_schedule(config), **common)
