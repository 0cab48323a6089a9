import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_jax.models.logits import weighted_cross_entropy


def naive(states, kernel, targets, weights, z_loss):
    logits = (states @ kernel).astype(jnp.float32)
    log_z = jax.nn.logsumexp(logits, axis=-1)
    cross_entropy = log_z - logits[jnp.arange(len(targets)), targets]
    return jnp.sum(weights * (cross_entropy + z_loss * log_z**2)), cross_entropy


@pytest.mark.parametrize("chunk", [1, 4, 7, 100])
@pytest.mark.parametrize("z_loss", [0.0, 0.01])
def test_chunks_change_neither_loss_nor_gradients(chunk, z_loss):
    rng = np.random.default_rng(0)
    states = jnp.asarray(rng.normal(size=(11, 5)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(5, 13)), jnp.float32)
    targets = jnp.asarray(rng.integers(0, 13, 11))
    weights = jnp.asarray(rng.random(11), jnp.float32).at[3].set(0.0)

    def ours(states, kernel):
        return 3.0 * weighted_cross_entropy(states, kernel, targets, weights, chunk, z_loss)[0]

    def peer(states, kernel):
        return 3.0 * naive(states, kernel, targets, weights, z_loss)[0]

    loss, grads = jax.value_and_grad(ours, (0, 1))(states, kernel)
    expected, expected_grads = jax.value_and_grad(peer, (0, 1))(states, kernel)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), grads, expected_grads)
    without_grad = weighted_cross_entropy(states, kernel, targets, weights, chunk, z_loss)
    np.testing.assert_allclose(3.0 * without_grad[0], loss, rtol=1e-6)
    np.testing.assert_allclose(
        without_grad[1], naive(states, kernel, targets, weights, 0.0)[1], rtol=1e-5, atol=1e-6
    )


def test_extreme_logits_stay_finite():
    states = jnp.array([[1e4, -1e4]])
    kernel = jnp.array([[100.0, -100.0], [-100.0, 100.0]])

    def loss(states):
        return weighted_cross_entropy(states, kernel, jnp.array([1]), jnp.ones(1))[0]

    value, grad = jax.value_and_grad(loss)(states)
    assert np.isfinite(value) and np.isfinite(grad).all()


def test_correct_counts_the_most_likely_token():
    states, kernel = jnp.eye(2), jnp.array([[2.0, 1.0], [2.0, 1.0]])
    _, _, correct = weighted_cross_entropy(states, kernel, jnp.array([0, 1]), jnp.ones(2) / 2)
    np.testing.assert_array_equal(correct, [1.0, 0.0])


@pytest.mark.slow
def test_spread_over_devices_they_are_the_same_and_move_no_logits():
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, str(pathlib.Path(__file__).parent / "sharded_logits.py")],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == [
        word for name in ("cross_entropy", "divergence", "log_probs", "lookup") for word in (name, "ok")
    ]
