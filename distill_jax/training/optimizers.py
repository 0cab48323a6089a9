"""The optimizers a run can choose by gin: optax's, with clipping by the global norm in front."""

import jax
import optax


def _clipped(optimizer: optax.GradientTransformation, clip_norm: float | None):
    if clip_norm is None:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)


def _scale_by_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """`optax.scale_by_adam`, its update taken from the new moments only once these are made.

    Otherwise XLA on CPU reads the old moments once more for the update, and so cannot write the new ones over
    them: it copies all moments in every step.
    """
    moments = optax.scale_by_adam(b1, b2, eps)

    def update(grads, state, params=None):
        _, state = moments.update(grads, state, params)
        state = jax.lax.optimization_barrier(state)
        first = optax.tree.bias_correction(state.mu, b1, state.count)
        second = optax.tree.bias_correction(state.nu, b2, state.count)
        return jax.tree.map(lambda m, v: m / (jax.numpy.sqrt(v) + eps), first, second), state

    return optax.GradientTransformation(moments.init, update)


def adamw(
    learning_rate: optax.ScalarOrSchedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    clip_norm: float | None = 1.0,
) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019); the defaults are the paper's reference code's."""
    optimizer = optax.chain(
        _scale_by_adam(b1, b2, eps),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
    return _clipped(optimizer, clip_norm)


def adafactor(
    learning_rate: optax.ScalarOrSchedule,
    *,
    decay_rate: float = 0.8,
    clip_norm: float | None = None,
    **options,
) -> optax.GradientTransformation:
    """Adafactor (Shazeer & Stern 2018) with T5's settings: relative step sizes, no momentum.

    `options` are those of `optax.adafactor`.
    """
    return _clipped(optax.adafactor(learning_rate, decay_rate=decay_rate, **options), clip_norm)
