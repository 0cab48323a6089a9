"""Learning rate schedules, `step -> float`, finite at every step; all but `rsqrt` warm up linearly from 0."""

import jax.numpy as jnp
import optax


def _with_warmup(schedule: optax.Schedule, peak: float, warmup_steps: int) -> optax.Schedule:
    if not warmup_steps:
        return schedule
    warmup = optax.linear_schedule(0.0, peak, warmup_steps)
    return optax.join_schedules([warmup, schedule], [warmup_steps])


def constant(learning_rate: float, warmup_steps: int = 0) -> optax.Schedule:
    """`learning_rate` from the end of the warmup on: T5's and T5X's fine-tuning."""
    return _with_warmup(optax.constant_schedule(learning_rate), learning_rate, warmup_steps)


def linear(learning_rate: float, total_steps: int, warmup_steps: int = 0) -> optax.Schedule:
    """Down to 0 at `total_steps`: the paper's reference code (Hugging Face's default)."""
    decay = optax.linear_schedule(learning_rate, 0.0, max(total_steps - warmup_steps, 1))
    return _with_warmup(decay, learning_rate, warmup_steps)


def cosine(learning_rate: float, total_steps: int, warmup_steps: int = 0) -> optax.Schedule:
    """Half a cosine down to 0 at `total_steps` (Loshchilov & Hutter 2017)."""
    decay = optax.cosine_decay_schedule(learning_rate, max(total_steps - warmup_steps, 1))
    return _with_warmup(decay, learning_rate, warmup_steps)


def rsqrt(learning_rate: float, warmup_steps: int = 10_000) -> optax.Schedule:
    """`learning_rate / sqrt(max(step, warmup_steps, 1))`: T5's pretraining."""
    return lambda step: learning_rate / jnp.sqrt(jnp.maximum(step, max(warmup_steps, 1)))
