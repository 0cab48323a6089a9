"""The optimizers a run can choose by name: optax's, with clipping by the global norm in front."""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import keystr, tree_map_with_path

_NOT_DECAYED = re.compile(r"norm|(^|/)(scale|bias|rel_embedding)$")


def decayed(params: Any) -> Any:
    """Whether weight decay shrinks each array: all but norms, biases and relative position biases.

    Hugging Face's `Trainer` (`get_decay_parameter_names`) leaves the same arrays of a T5 alone. The names
    decide, not the ranks: a norm of scanned layers is a matrix.
    """
    return tree_map_with_path(
        lambda path, _: not _NOT_DECAYED.search(keystr(path, simple=True, separator="/")), params
    )


def _clip_by_global_norm(clip_norm: float) -> optax.GradientTransformationExtraArgs:
    """`optax.clip_by_global_norm`, by one factor, from the norm that the train step has computed.

    optax's divides each array by the norm, which XLA on CPU writes to memory for every gradient.
    """

    def update(grads, state, params=None, *, grad_norm=None, **_):
        norm = optax.global_norm(grads) if grad_norm is None else grad_norm
        factor = jnp.where(norm < clip_norm, 1.0, clip_norm / norm)
        return jax.tree.map(lambda grad: grad * factor.astype(grad.dtype), grads), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def _clipped(optimizer: optax.GradientTransformation, clip_norm: float | None):
    return optimizer if clip_norm is None else optax.chain(_clip_by_global_norm(clip_norm), optimizer)


def _scale_by_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """`optax.scale_by_adam`, with the update of an array taken from its new moments only.

    Otherwise XLA on CPU reads the old moments once more for the update, and so cannot write the new ones over
    them: it copies all moments in every step.
    """
    init = optax.scale_by_adam(b1, b2, eps).init

    def update(grads, state, params=None):
        count = optax.safe_increment(state.count)

        def moments(grad, mu, nu):
            return jax.lax.optimization_barrier((b1 * mu + (1 - b1) * grad, b2 * nu + (1 - b2) * grad**2))

        pairs = jax.tree.map(moments, grads, state.mu, state.nu)
        mu, nu = jax.tree.transpose(jax.tree.structure(grads), jax.tree.structure((0, 0)), pairs)
        first, second = optax.tree.bias_correction(mu, b1, count), optax.tree.bias_correction(nu, b2, count)
        updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), first, second)
        return updates, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)


def adamw(
    learning_rate: optax.ScalarOrSchedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decay_all: bool = False,
    clip_norm: float | None = 1.0,
) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019); the defaults are the paper's reference code's.

    Args:
      learning_rate: a number, or a schedule `step -> float`.
      b1: decay of the first moment; `b2` is of the second.
      eps: added to the root of the second moment.
      weight_decay: times the learning rate, of the arrays that `decayed` names.
      decay_all: decays norms and biases too, as `optax.adamw` does.
      clip_norm: largest global norm of the gradients; None for no clipping.
    """
    decay = optax.add_decayed_weights(weight_decay, None if decay_all else decayed)
    optimizer = optax.chain(
        _scale_by_adam(b1, b2, eps),
        decay if weight_decay else optax.identity(),  # a decay of 0 would still read every parameter
        optax.scale_by_learning_rate(learning_rate),
    )
    return _clipped(optimizer, clip_norm)


def adafactor(
    learning_rate: optax.ScalarOrSchedule,
    *,
    decay_rate: float = 0.8,
    weight_decay: float = 0.0,
    decay_all: bool = False,
    clip_norm: float | None = None,
    min_dim_size_to_factor: int | None = None,
    **options,
) -> optax.GradientTransformation:
    """Adafactor (Shazeer & Stern 2018) with T5's settings: relative step sizes, no momentum.

    Takes the steps of T5X's Adafactor with its `standard_logical_factor_rules`: each of the layers that are
    scanned (stacked along the first axis of arrays under `layers`) has its own factors, scale and clipping.

    Args:
      learning_rate: with `clip_norm` as of `adamw`.
      decay_rate: exponent of the second moment's decay.
      weight_decay: share of a parameter taken off in each step, whatever the learning rate, as in T5X.
      decay_all: decays norms and biases too, as T5X does.
      min_dim_size_to_factor: a matrix with a smaller side keeps its second moment whole. None is T5X's: 128,
        but 1 for scanned layers.
      **options: those of `optax.adafactor`.
    """
    decay = {"weight_decay_rate": weight_decay or None, "weight_decay_mask": None if decay_all else decayed}
    make = functools.partial(optax.adafactor, learning_rate, decay_rate=decay_rate, **decay, **options)
    smallest = min_dim_size_to_factor
    whole = make(min_dim_size_to_factor=128 if smallest is None else smallest)
    layer = _each_layer(make(min_dim_size_to_factor=1 if smallest is None else smallest))

    def split(params) -> optax.GradientTransformation:
        groups = tree_map_with_path(_group, params)
        transforms = {name: whole if name == "whole" else layer for name in jax.tree.leaves(groups)}
        return whole if set(transforms) == {"whole"} else optax.partition(transforms, groups)

    optimizer = optax.GradientTransformation(
        lambda params: split(params).init(params),
        lambda grads, state, params: split(params).update(grads, state, params),
    )
    return _clipped(optimizer, clip_norm)


def _group(path, array: jax.Array) -> str:
    """`whole`, or for an array of scanned layers their number."""
    scanned = "layers" in keystr(path, simple=True, separator="/").split("/")
    return f"{array.shape[0]}_layers" if scanned else "whole"


def _each_layer(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """`optimizer` on each layer of arrays [layers, ...] alone; its step counts are the same for all layers."""

    def axes(params):
        one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), params)
        return jax.tree.map(lambda x: 0 if x.shape else None, jax.eval_shape(optimizer.init, one))

    def update(grads, state, params):
        placed = axes(params)
        return jax.vmap(optimizer.update, (0, placed, 0), (0, placed))(grads, state, params)

    return optax.GradientTransformation(
        lambda params: jax.vmap(optimizer.init, out_axes=axes(params))(params), update
    )
