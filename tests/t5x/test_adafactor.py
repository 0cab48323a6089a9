"""Our Adafactor and T5X's take the same steps, whether layers are scanned or not."""

import numpy as np
import pytest

pytest.importorskip("t5x", reason="T5X is on no registry: docs/t5x.md tells how it is installed")
pytestmark = pytest.mark.slow  # TensorFlow takes seconds to import

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402
from flax.core import freeze, unfreeze  # noqa: E402
from t5x import adafactor  # noqa: E402

from distill_jax.models.config import T5Config  # noqa: E402
from distill_jax.models.t5 import Transformer  # noqa: E402
from distill_jax.training import optimizers, partitioning, train_state  # noqa: E402


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("width", [128, 16])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_20_steps(scan, width, weight_decay):
    """Sides from 128 are factored in both; T5X factors smaller ones of scanned layers too."""
    model = Transformer(
        T5Config(
            vocab_size=160,
            emb_dim=width,
            num_heads=2,
            num_encoder_layers=2,
            num_decoder_layers=3,
            head_dim=width // 2,
            mlp_dim=width + 24,
            mlp_activations=("gelu", "linear"),
            scan_layers=scan,
        )
    )
    ours = theirs = before = train_state.init_params(model, 0)
    optimizer = optimizers.adafactor(1e-2, weight_decay=weight_decay, decay_all=True)
    state, update = optimizer.init(ours), jax.jit(optimizer.update)
    definition = adafactor.Adafactor(
        learning_rate=1e-2,
        decay_rate=0.8,
        step_offset=0,
        weight_decay_rate=weight_decay or None,
        logical_factor_rules=adafactor.standard_logical_factor_rules(),
    )
    definition.set_param_axes(freeze(partitioning.logical_axes(model)))
    their_state = definition.init_state(freeze(theirs))
    step = jax.jit(lambda *args: definition.apply_gradient(definition.hyper_params, *args))
    leaves, tree = jax.tree.flatten(ours)
    rng = np.random.default_rng(1)
    theirs = freeze(theirs)
    for _ in range(20):
        # The parts along the first axis, scanned layers among them, have gradients of unlike sizes.
        sizes = [np.exp(rng.normal(size=(len(x), *[1] * (x.ndim - 1)))) for x in leaves]
        values = [rng.normal(size=x.shape) * size for x, size in zip(leaves, sizes, strict=True)]
        grads = tree.unflatten([jnp.asarray(x, jnp.float32) for x in values])
        updates, state = update(grads, state, ours)
        ours = optax.apply_updates(ours, updates)
        theirs, their_state = step(theirs, their_state, freeze(grads))

    def check(path, mine, other, start):
        np.testing.assert_allclose(mine, other, rtol=2e-5, atol=1e-6, err_msg=str(path))
        assert jnp.linalg.norm(mine - start) > 0.01 * jnp.linalg.norm(start), path

    jax.tree_util.tree_map_with_path(check, ours, unfreeze(theirs), before)
