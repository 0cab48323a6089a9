"""The optimizers and schedules by hand, and against optax, torch and transformers; T5X's is in tests/t5x."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_jax.models.config import T5Config
from distill_jax.models.t5 import Transformer
from distill_jax.training import optimizers, schedules, train_state


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (schedules.constant(0.1), {0: 0.1, 99: 0.1}),
        (schedules.constant(0.1, warmup_steps=10), {0: 0.0, 5: 0.05, 10: 0.1, 50: 0.1}),
        (schedules.linear(0.1, 100), {0: 0.1, 50: 0.05, 100: 0.0, 120: 0.0}),
        (schedules.linear(0.1, 110, warmup_steps=10), {5: 0.05, 10: 0.1, 60: 0.05, 110: 0.0}),
        (schedules.cosine(0.1, 100), {0: 0.1, 50: 0.05, 100: 0.0}),
        (schedules.rsqrt(1.0, warmup_steps=100), {0: 0.1, 100: 0.1, 400: 0.05}),
        (schedules.rsqrt(1.0, warmup_steps=0), {0: 1.0, 1: 1.0, 4: 0.5}),
    ],
)
def test_schedules_by_hand(schedule, values):
    for step, value in values.items():
        np.testing.assert_allclose(schedule(step), value, atol=1e-7)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["constant", "linear", "cosine", "rsqrt"]),
    steps=st.integers(1, 300),
    warmup=st.integers(0, 400),
)
def test_schedules_are_finite_and_have_no_jumps(name, steps, warmup):
    """No step changes the rate by more than pi / 2 times the steeper of warm-up and decay, taken as lines."""
    counts = (steps,) if name in ("linear", "cosine") else ()
    schedule = getattr(schedules, name)(1.0, *counts, warmup_steps=warmup)
    rates = np.asarray(jax.vmap(schedule)(jnp.arange(301)))[: steps + 1]  # one shape: little to compile
    assert np.isfinite(rates).all() and (rates >= 0).all() and (rates <= 1 + 1e-6).all()
    legs = [leg for leg in (warmup, steps - warmup) if leg > 0 and name != "rsqrt"]
    steepest = np.pi / 2 / min(legs, default=1)
    assert np.abs(np.diff(rates)).max(initial=0.0) <= steepest + 1e-6
    if name == "rsqrt":  # 1 - 1 / sqrt(2) at most, from step 1 to step 2
        assert np.abs(np.diff(rates)).max(initial=0.0) <= 1 - 0.5**0.5 + 1e-6


def test_adamw_clips_by_the_global_norm_first():
    params = {"a": jnp.zeros(2)}
    optimizer = optimizers.adamw(0.1, eps=1.0, clip_norm=1.0)
    updates, _ = optimizer.update({"a": jnp.array([30.0, 40.0])}, optimizer.init(params), params)
    # Clipped to [.6, .8]; the first Adam step divides by (|g| + eps).
    np.testing.assert_allclose(updates["a"], [-0.1 * 0.6 / 1.6, -0.1 * 0.8 / 1.8], rtol=1e-5)


@pytest.mark.parametrize("factor", [0.0, 0.1, 1.0, 30.0, np.inf, np.nan])
def test_clipping_is_optaxs_with_and_without_the_norm_at_hand(factor):
    params, grads = {"a": jnp.zeros(2), "b": jnp.zeros(1)}, {"a": jnp.array([0.3, -0.4]), "b": jnp.zeros(1)}
    grads = jax.tree.map(lambda x: factor * x, grads)
    ours, plain = optimizers.adamw(0.1, clip_norm=1.0), optimizers.adamw(0.1, clip_norm=None)
    theirs = optax.chain(optax.clip_by_global_norm(1.0), plain)
    expected, _ = theirs.update(grads, theirs.init(params), params)
    for norm in ({}, {"grad_norm": optax.global_norm(grads)}):
        updates, _ = ours.update(grads, ours.init(params), params, **norm)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), updates, expected)


def run(optimizer, params, grads):
    """The parameters after one update for each tree of gradients."""
    state, update = jax.jit(optimizer.init)(params), jax.jit(optimizer.update)
    for grad in grads:
        updates, state = update(grad, state, params)
        params = optax.apply_updates(params, updates)
    return params


@functools.cache
def student(**changes):
    config = T5Config(
        vocab_size=160,
        emb_dim=128,
        num_heads=2,
        num_encoder_layers=2,
        num_decoder_layers=3,
        head_dim=64,
        mlp_dim=192,
        mlp_activations=("gelu", "linear"),
        **changes,
    )
    return train_state.init_params(Transformer(config), 0)


def gradients(params, count):
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(0)
    return [
        tree.unflatten([jnp.asarray(rng.normal(size=x.shape), x.dtype) for x in leaves]) for _ in range(count)
    ]


def assert_close(one, other, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), one, other)


def test_adamw_that_decays_all_is_that_of_optax():
    params = {"kernel": jnp.full((3, 4), 0.3), "scale": jnp.ones(5)}
    options = {"b1": 0.8, "b2": 0.9, "eps": 1e-6, "weight_decay": 0.1}
    ours = optimizers.adamw(schedules.constant(0.1), clip_norm=None, decay_all=True, **options)
    grads = gradients(params, 3)
    assert_close(run(ours, params, grads), run(optax.adamw(0.1, **options), params, grads), rtol=1e-6)


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("make", [optimizers.adamw, optimizers.adafactor])
def test_weight_decay_by_hand(make, scan):
    """Without gradients a matrix shrinks by the decay (times the rate for AdamW); the rest stays as it was."""
    params = student(scan_layers=scan)
    rate, decay = 0.5, 0.1
    factor = 1 - decay * (rate if make is optimizers.adamw else 1.0)
    for decay_all in (False, True):
        optimizer = make(rate, weight_decay=decay, decay_all=decay_all)
        after = run(optimizer, params, [jax.tree.map(jnp.zeros_like, params)])

        def check(path, new, old, decay_all=decay_all):
            stays = path[-1].key in ("scale", "rel_embedding") and not decay_all
            np.testing.assert_allclose(new, old * (1.0 if stays else factor), rtol=1e-6, err_msg=str(path))

        jax.tree_util.tree_map_with_path(check, after, params)


def test_what_is_decayed_is_what_hugging_face_decays():
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    trainer_utils = pytest.importorskip("transformers.trainer_pt_utils")
    config = transformers.T5Config(
        vocab_size=160, d_model=128, num_layers=2, num_decoder_layers=3, num_heads=2, d_kv=64, d_ff=192
    )
    model = transformers.T5ForConditionalGeneration(config)
    norms = [transformers.models.t5.modeling_t5.T5LayerNorm]
    names = trainer_utils.get_parameter_names(model, norms, [r"bias", r"layernorm", r"rmsnorm", r"_norm"])
    sizes = dict((name, x.numel()) for name, x in model.named_parameters())
    theirs = sum(size for name, size in sizes.items() if name not in names)
    params = student()
    ours = jax.tree.map(lambda x, is_decayed: 0 if is_decayed else x.size, params, optimizers.decayed(params))
    assert sum(jax.tree.leaves(ours)) == theirs == (2 * 2 + 3 * 3 + 2) * 128 + 2 * 2 * 32


def test_adamw_is_that_of_torch():
    torch = pytest.importorskip("torch")
    params = {"kernel": jnp.full((3, 4), 0.3), "scale": jnp.ones(5)}
    grads = gradients(params, 5)
    ours = run(optimizers.adamw(0.1, weight_decay=0.2, clip_norm=0.7), params, grads)
    theirs = {name: torch.nn.Parameter(torch.tensor(np.asarray(x))) for name, x in params.items()}
    groups = [
        {"params": [theirs["kernel"]], "weight_decay": 0.2},
        {"params": [theirs["scale"]], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    for grad in grads:
        for name, x in theirs.items():
            x.grad = torch.tensor(np.asarray(grad[name]))
        torch.nn.utils.clip_grad_norm_(list(theirs.values()), 0.7)
        optimizer.step()
    assert_close(ours, {name: x.detach().numpy() for name, x in theirs.items()}, atol=1e-5)


def test_a_decay_of_zero_is_no_decay():
    params = {"kernel": jnp.ones(3)}
    state = optimizers.adamw(0.1).init(params)
    assert jax.tree.structure(state[1][1]) == jax.tree.structure(optax.identity().init(params))


def test_adafactor_of_unscanned_layers_is_that_of_optax():
    params = student()
    grads = gradients(params, 5)
    ours, theirs = (make(1e-2, decay_rate=0.8) for make in (optimizers.adafactor, optax.adafactor))
    assert_close(run(ours, params, grads), run(theirs, params, grads), rtol=1e-6)


def test_adafactor_treats_each_scanned_layer_as_if_it_were_alone():
    """Encoder of 2 layers, decoder of 3; one layer's gradients are 100 times as large as the others'."""
    params = student(scan_layers=True)
    grads = gradients(params, 10)
    for grad in grads:
        for stack in ("encoder", "decoder"):
            grad[stack]["layers"] = jax.tree.map(lambda x: x.at[1].multiply(100.0), grad[stack]["layers"])
    together = run(optimizers.adafactor(1e-2), params, grads)

    def apart(tree):
        for stack, count in (("encoder", 2), ("decoder", 3)):
            parts = dict(tree[stack])
            layers = parts.pop("layers")
            parts |= {f"layers_{n}": jax.tree.map(lambda x, n=n: x[n], layers) for n in range(count)}
            tree = {**tree, stack: parts}
        return tree

    alone = run(optimizers.adafactor(1e-2), apart(params), [apart(grad) for grad in grads])
    assert_close(apart(together), alone, rtol=2e-5, atol=1e-6)
    state = optimizers.adafactor(1e-2).init(params)
    moments = sum(x.size for x in jax.tree.leaves(state))
    assert moments < 0.05 * sum(x.size for x in jax.tree.leaves(params))


def test_adafactor_lowers_a_quadratic():
    params = {"w": jnp.full((128, 128), 2.0)}
    optimizer = optimizers.adafactor(schedules.constant(0.05))
    state = optimizer.init(params)
    for _ in range(50):
        updates, state = optimizer.update(params, state, params)
        params = optax.apply_updates(params, updates)
    assert float(jnp.abs(params["w"]).max()) < 1.0
