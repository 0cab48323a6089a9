"""Adapters of low rank: worked by hand, in all families, with scanned and with recomputed layers."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_jax.errors import UserError
from distill_jax.models.families import make_config, make_network
from distill_jax.models.layers import Projection
from distill_jax.models.lora import A, B, Lora
from distill_jax.training import partitioning, train_state

SIZES = {
    "vocab_size": 32,
    "emb_dim": 8,
    "num_heads": 2,
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
    "head_dim": 4,
    "mlp_dim": 12,
    "dropout_rate": 0.0,
}
GEMMA = {"num_kv_heads": 1, "sliding_window": 3}
FAMILIES = {
    "t5": {"mlp_activations": ("gelu", "linear")},
    "t5 scanned": {"mlp_activations": ("relu",), "scan_layers": True, "remat": "full"},
    "umt5": {"model_family": "umt5", "scan_layers": True},
    "t5gemma": {"model_family": "t5gemma", **GEMMA},
    "t5gemma2": {"model_family": "t5gemma2", **GEMMA, "scan_layers": True, "remat": "dots"},
    "llama": {"model_family": "llama", "num_encoder_layers": 0, "num_kv_heads": 1},
    "qwen3": {"model_family": "llama", "num_encoder_layers": 0, "num_kv_heads": 1, "qk_norm": True},
}
LORA = Lora(3, 6.0, ("attention", "mlp"))


def make(kind):
    model = make_network(make_config(SIZES | FAMILIES[kind]))
    return model, train_state.init_params(model, 0)


def batch():
    rng = np.random.default_rng(1)
    return [jnp.asarray(rng.integers(3, 32, (2, length))) for length in (7, 5)]


@functools.partial(jax.jit, static_argnums=0)
def logits(model, params):
    inputs, targets = batch()
    return model.apply({"params": params}, inputs, targets, targets, enable_dropout=False)


def noisy(adapters):
    """Adapters with a B that is not 0."""
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda x: x + rng.normal(0, 0.3, x.shape).astype(np.float32), adapters)


def names(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(tree)
    }


def test_an_update_of_rank_1_by_hand():
    kernel = jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    params = {"kernel": kernel, A: jnp.array([[1.0], [0.0], [2.0]]), B: jnp.array([[0.5, -1.0]])}
    tree = {"decoder": {"layers_0": {"mlp": {"wi": {"kernel": kernel}}}}}
    adapters = {"decoder": {"layers_0": {"mlp": {"wi": {A: params[A], B: params[B]}}}}}
    x = jnp.array([[1.0, 1.0, 1.0], [0.0, 2.0, -1.0]])
    lora = Lora(1, 4.0, ("mlp",))  # alpha / rank = 4
    # (x A) = 3 and -2; times 4 B = [2, -4]: [6, -12] and [-4, 8]; x W = [9, 12] and [1, 2]
    expected = [[15.0, 0.0], [-3.0, 10.0]]
    combined = lora.combine(tree, adapters)["decoder"]["layers_0"]["mlp"]["wi"]
    found = Projection(2, ("embed", "mlp"), "float32").apply({"params": combined}, x)
    np.testing.assert_allclose(found, expected)
    merged = lora.merge(tree, adapters)["decoder"]["layers_0"]["mlp"]["wi"]
    assert set(merged) == {"kernel"}
    # W + 4 A B: row 1 + 4 [0.5, -1], row 2 as it was, row 3 + 8 [0.5, -1]
    np.testing.assert_allclose(merged["kernel"], [[3.0, -2.0], [3.0, 4.0], [9.0, -2.0]])
    np.testing.assert_allclose(x @ merged["kernel"], expected)


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_adapter_of_every_family_acts_as_its_merged_kernel(kind):
    model, params = make(kind)
    adapters = LORA.init(params, 0)
    plain, start = logits(model, params), logits(model, LORA.combine(params, adapters))
    np.testing.assert_allclose(start, plain, rtol=0, atol=1e-6)  # B is 0; of two programs that round apart
    np.testing.assert_array_equal(logits(model, LORA.merge(params, adapters)), plain)
    adapters = noisy(adapters)
    found = logits(model, LORA.combine(params, adapters))
    assert np.abs(found - start).max() > 0.01
    np.testing.assert_allclose(found, logits(model, LORA.merge(params, adapters)), rtol=1e-5, atol=1e-5)

    @jax.jit
    @jax.grad
    def gradients(adapters):
        return (logits(model, LORA.combine(params, adapters)) ** 2).sum()

    grads = gradients(adapters)
    assert names(grads) == names(adapters)
    for path, grad in jax.tree.leaves_with_path(grads):  # one that no layer reads would have none
        assert float(jnp.abs(grad).max()) > 0, path


def test_the_adapters_follow_their_kernels_axes():
    model, params = make("t5 scanned")
    axes = partitioning.logical_axes(model, LORA)
    assert names(LORA.init(params, 0)) == names(
        jax.tree.map(lambda _: 0, axes, is_leaf=lambda x: not isinstance(x, dict))
    )
    query, wo = axes["decoder"]["layers"]["self_attention"]["query"], axes["encoder"]["layers"]["mlp"]["wo"]
    assert tuple(query[A]) == ("layers", "embed", None) and tuple(query[B]) == ("layers", None, "joined_kv")
    assert tuple(wo[A]) == ("layers", "mlp", None) and tuple(wo[B]) == ("layers", None, "embed")


def test_what_has_an_adapter():
    _, params = make("t5")
    found = names(
        dataclasses.replace(LORA, targets=(r"decoder/layers_1/.*attention/(query|value)/",)).init(params, 0)
    )
    places = ("self_attention/query", "self_attention/value")
    places += ("encoder_decoder_attention/query", "encoder_decoder_attention/value")
    assert found == {f"decoder/layers_1/{place}/{part}" for place in places for part in (A, B)}
    for target in ("nothing", "logits_dense", "embedding"):
        with pytest.raises(UserError, match=f"LORA_TARGETS. '{target}': no kernel of a layer.*attention, mlp"):
            dataclasses.replace(LORA, targets=("mlp", target)).init(params, 0)
    with pytest.raises(UserError, match="no regular expression"):
        dataclasses.replace(LORA, targets=("(",)).init(params, 0)


def test_the_factor_is_pefts():
    """peft's `lora.Linear`: `base(x) + lora_B(lora_A(x)) * (lora_alpha / r)`, with A [r, in] and B [out, r]."""
    torch = pytest.importorskip("torch", reason="for parity tests only")
    rng = np.random.default_rng(0)
    kernel, x = rng.normal(size=(5, 4)).astype(np.float32), rng.normal(size=(3, 5)).astype(np.float32)
    down, up = rng.normal(size=(5, 2)).astype(np.float32), rng.normal(size=(2, 4)).astype(np.float32)
    theirs = torch.nn.Linear(5, 2, bias=False), torch.nn.Linear(2, 4, bias=False)
    for layer, array in zip(theirs, (down, up), strict=True):
        layer.weight.data = torch.tensor(array.T)
    base = torch.tensor(x) @ torch.tensor(kernel)
    with torch.no_grad():
        expected = base + theirs[1](theirs[0](torch.tensor(x))) * (12.0 / 2)
    tree = {"decoder": {"layers_0": {"mlp": {"wo": {"kernel": kernel}}}}}
    adapters = {"decoder": {"layers_0": {"mlp": {"wo": {A: down, B: up}}}}}
    merged = Lora(2, 12.0, ("mlp",)).merge(tree, adapters)["decoder"]["layers_0"]["mlp"]["wo"]["kernel"]
    np.testing.assert_allclose(x @ merged, expected, rtol=1e-5, atol=1e-5)
