"""The optimizers a run can choose by gin: optax's, with clipping by the global norm in front."""

import optax


def _clipped(optimizer: optax.GradientTransformation, clip_norm: float | None):
    if clip_norm is None:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)


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
    return _clipped(optax.adamw(learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay), clip_norm)


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
