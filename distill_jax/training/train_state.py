"""What a step changes: the parameters, the optimizer's state and the step count."""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax


@flax.struct.dataclass
class TrainState:
    """State of a run. `step` is int32 [], the number of updates done."""

    step: jax.Array
    params: Any
    opt_state: optax.OptState


@functools.partial(jax.jit, static_argnums=0)
def _init(model, key: jax.Array) -> Any:
    tokens = jnp.ones((1, 8), jnp.int32)
    return model.init(key, tokens, tokens, tokens, enable_dropout=False)


def init_params(model, seed: int) -> Any:
    """Random parameters of `model`: a tree of float32 arrays, T5's initialisation."""
    return _init(model, jax.random.key(seed))["params"]


def axis_names(model) -> Any:
    """The metadata of the logical axes of every parameter; of the trace that `init_params` needs too."""
    return jax.eval_shape(lambda: _init(model, jax.random.key(0)))["params_axes"]


def create(params: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    return TrainState(jnp.zeros((), jnp.int32), params, jax.jit(optimizer.init)(params))
