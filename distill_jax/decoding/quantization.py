"""Weight-only quantization: parameters are stored as bfloat16 or int8 and dequantized inside each program.

`bfloat16` is JAX's own cast. `int8` is qwix's: a scale for each output of a kernel and each row of an
embedding; norms and biases by distance, which are small, stay float32. Programs compute in float32 either way.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from distill_jax.errors import UserError

WEIGHTS = ("float32", "bfloat16", "int8")
INPUTS_AXIS = {"kernel": -2, "embedding": -1}  # the axis that shares one int8 scale


def _qwix():
    try:
        import qwix
    except ImportError:
        raise UserError("int8 weights need qwix: pip install 'distill_jax[int8]'") from None
    return qwix


def quantize(params: Any, weights: str) -> Any:
    """Quantizes float32 parameters of a `models.t5.Transformer` to one of `WEIGHTS`; see `dequantize`.

    Returns:
      The tree with arrays of float32 or bfloat16, or int8 `qwix.QArray`s in their places.

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

    def to_int8(path, x):
        if (axis := INPUTS_AXIS.get(path[-1].key)) is None:
            return x
        own_scale = [n for n in range(x.ndim) if n != x.ndim + axis]
        return qwix.quantize(jnp.asarray(x), jnp.int8, channelwise_axes=own_scale)

    return jax.tree_util.tree_map_with_path(to_int8, params)


def dequantize(params: Any) -> Any:
    """What `quantize` made as float32 arrays.

    It is called inside a program, so that between programs only the small arrays are in memory.
    """
    if all(x.dtype == jnp.float32 for x in jax.tree.leaves(params)):
        return params
    qwix = _qwix() if any(x.dtype == jnp.int8 for x in jax.tree.leaves(params)) else None

    def to_float32(x):
        return x.astype(jnp.float32) if isinstance(x, jax.Array) else qwix.dequantize(x)

    def is_quantized(x):
        return qwix is not None and isinstance(x, qwix.QArray)

    return jax.tree.map(to_float32, params, is_leaf=is_quantized)


def jit_dequantized(function: Callable, **options) -> Callable:
    """`jax.jit` of a function of (model, params, …) that also takes quantized parameters."""

    @functools.wraps(function)
    def dequantized(model, params, *args, **settings):
        return function(model, dequantize(params), *args, **settings)

    return jax.jit(dequantized, **options)
