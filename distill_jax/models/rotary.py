"""Rotary positions (Su et al. 2021, arXiv:2104.09864): queries and keys turned by their positions."""

import jax
import jax.numpy as jnp

Array = jax.Array
Rotation = tuple[Array, Array]  # cosines and sines, float32 [batch or 1, 1, length, head_dim / 2]


def wavelengths(head_dim: int, base: float, factor: float = 1.0) -> Array:
    """float32 [head_dim / 2], radians a position.

    With a `factor` positions are divided by it (Chen et al. 2023, arXiv:2306.15595).
    """
    return 1.0 / (base ** (jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)) / factor


def rotation(positions: Array, radians: Array) -> Rotation:
    """The rotation at each position, int32 [batch or 1, length], by radians a position [head_dim / 2]."""
    angles = positions[:, None, :, None].astype(jnp.float32) * radians
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: Array, cosines_sines: Rotation) -> Array:
    """Rotates [batch, heads, length, head_dim]: entry i with entry i + head_dim / 2."""
    cosines, sines = cosines_sines
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = [first * cosines - second * sines, second * cosines + first * sines]
    return jnp.concatenate(rotated, axis=-1).astype(x.dtype)
