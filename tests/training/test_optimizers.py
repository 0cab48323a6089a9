import jax.numpy as jnp
import numpy as np
import optax
import pytest

from distill_jax.training import optimizers, schedules


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (schedules.constant(0.1), {0: 0.1, 99: 0.1}),
        (schedules.constant(0.1, warmup_steps=10), {0: 0.0, 5: 0.05, 10: 0.1, 50: 0.1}),
        (schedules.linear(0.1, 100), {0: 0.1, 50: 0.05, 100: 0.0, 120: 0.0}),
        (schedules.linear(0.1, 110, warmup_steps=10), {5: 0.05, 10: 0.1, 60: 0.05, 110: 0.0}),
        (schedules.cosine(0.1, 100), {0: 0.1, 50: 0.05, 100: 0.0}),
        (schedules.rsqrt(1.0, warmup_steps=100), {0: 0.1, 100: 0.1, 400: 0.05}),
    ],
)
def test_schedules_by_hand(schedule, values):
    for step, value in values.items():
        np.testing.assert_allclose(schedule(step), value, atol=1e-7)


def test_adamw_clips_by_the_global_norm_first():
    params = {"a": jnp.zeros(2)}
    optimizer = optimizers.adamw(0.1, eps=1.0, clip_norm=1.0)
    updates, _ = optimizer.update({"a": jnp.array([30.0, 40.0])}, optimizer.init(params), params)
    # Clipped to [.6, .8]; the first Adam step divides by (|g| + eps).
    np.testing.assert_allclose(updates["a"], [-0.1 * 0.6 / 1.6, -0.1 * 0.8 / 1.8], rtol=1e-5)


def test_adamw_is_that_of_optax():
    rng = np.random.default_rng(0)
    params = {"a": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32), "b": jnp.ones(5)}
    options = {"b1": 0.8, "b2": 0.9, "eps": 1e-6, "weight_decay": 0.1}
    ours = optimizers.adamw(schedules.constant(0.1), clip_norm=None, **options)
    theirs = optax.adamw(0.1, **options)
    states = [optimizer.init(params) for optimizer in (ours, theirs)]
    for _ in range(3):
        grads = {name: jnp.asarray(rng.normal(size=x.shape), jnp.float32) for name, x in params.items()}
        updates, states = zip(
            *(o.update(grads, state, params) for o, state in zip((ours, theirs), states, strict=True)),
            strict=True,
        )
        for name in params:
            np.testing.assert_allclose(updates[0][name], updates[1][name], rtol=1e-6)
        params = optax.apply_updates(params, updates[0])


def test_adafactor_lowers_a_quadratic():
    params = {"w": jnp.full((128, 128), 2.0)}
    optimizer = optimizers.adafactor(schedules.constant(0.05))
    state = optimizer.init(params)
    for _ in range(50):
        updates, state = optimizer.update(params, state, params)
        params = optax.apply_updates(params, updates)
    assert float(jnp.abs(params["w"]).max()) < 1.0
