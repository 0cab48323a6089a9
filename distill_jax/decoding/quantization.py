"""A student's weights in fewer bits: what they are kept in between programs, not what is computed in.

`bfloat16` is JAX's own cast. `int8` is qwix's: a scale for each output of a kernel and each row of an
embedding; norms and biases by distance, which are small, stay float32.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from distill_jax.errors import UserError

WEIGHTS = ("float32", "bfloat16", "int8")
INPUTS_AXIS = {"kernel": -2, "embedding": -1}  # what a scale of an int8 matrix is shared over


def _qwix():
    try:
        import qwix
    except ImportError:
        raise UserError("int8 weights need qwix: pip install 'distill_jax[int8]'") from None
    return qwix


def shrink(params: Any, weights: str) -> Any:
    """Parameters as they are kept, for `restore`.

    Args:
      params: float32, of a `models.t5.Transformer`.
      weights: one of `WEIGHTS`.

    Returns:
      The tree, its arrays float32 or bfloat16, or int8 `qwix.QArray`s in their places.

    Raises:
      UserError: for other weights, and int8 where qwix is not installed.
    """
    if weights not in WEIGHTS:
        raise UserError(f"weights: expected one of {', '.join(WEIGHTS)}, got {weights!r}")
    if weights == "float32":
        return params
    if weights == "bfloat16":
        return jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), params)
    qwix = _qwix()

    def quantized(path, x):
        if (axis := INPUTS_AXIS.get(path[-1].key)) is None:
            return x
        own_scale = [n for n in range(x.ndim) if n != x.ndim + axis]
        return qwix.quantize(jnp.asarray(x), jnp.int8, channelwise_axes=own_scale)

    return jax.tree_util.tree_map_with_path(quantized, params)


def program(function: Callable, **static) -> Callable:
    """`jax.jit` of a function of (model, params, …), which takes what `shrink` made as params too."""

    @functools.wraps(function)
    def restored(model, params, *args, **settings):
        return function(model, restore(params), *args, **settings)

    return jax.jit(restored, **static)


def restore(params: Any) -> Any:
    """What `shrink` made as float32 arrays; inside a program, so that only the small weights are kept."""
    if all(x.dtype == jnp.float32 for x in jax.tree.leaves(params)):
        return params
    qwix = _qwix() if any(x.dtype == jnp.int8 for x in jax.tree.leaves(params)) else None

    def widened(x):
        return x.astype(jnp.float32) if isinstance(x, jax.Array) else qwix.dequantize(x)

    def is_kept(x):
        return qwix is not None and isinstance(x, qwix.QArray)

    return jax.tree.map(widened, params, is_leaf=is_kept)
