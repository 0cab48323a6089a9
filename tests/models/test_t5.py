import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from distill_jax.checkpoints.other_formats.parameters import from_tree, to_tree
from distill_jax.config import ModelOptions, Sources, build
from distill_jax.errors import UserError
from distill_jax.models import layers
from distill_jax.models.config import T5Config
from distill_jax.models.encoder_decoder import output_kernel
from distill_jax.models.families import make_config
from distill_jax.models.t5 import Transformer
from distill_jax.training import train_state

FIELDS = {
    "vocab_size": 32,
    "emb_dim": 8,
    "num_heads": 2,
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
    "head_dim": 6,
    "mlp_dim": 20,
    "dropout_rate": 0.0,
}


def shapes_of(config):
    model, tokens = Transformer(config), jnp.ones((1, 8), jnp.int32)
    return jax.eval_shape(
        lambda key: model.init(key, tokens, tokens, tokens, enable_dropout=False),
        jax.random.key(0),
    )


def t5x_tree(stack):
    """Names and shapes of T5X's `examples/t5/network.py`, written out for one layer of a stack."""
    own = "attention" if stack == "encoder" else "self_attention"
    blocks = [own] if stack == "encoder" else [own, "encoder_decoder_attention"]
    tree = {}
    for block in blocks:
        for name in ("query", "key", "value"):
            tree[f"{block}/{name}/kernel"] = (8, 12)
        tree[f"{block}/out/kernel"] = (12, 8)
        norm = "pre_cross_attention" if block == "encoder_decoder_attention" else f"pre_{block}"
        tree[f"{norm}_layer_norm/scale"] = (8,)
    tree["pre_mlp_layer_norm/scale"] = (8,)
    tree |= {"mlp/wi_0/kernel": (8, 20), "mlp/wi_1/kernel": (8, 20), "mlp/wo/kernel": (20, 8)}
    return tree


def test_parameters_are_named_and_shaped_as_in_t5x():
    config = T5Config(**FIELDS, mlp_activations=("gelu", "linear"))
    found = traverse_util.flatten_dict(shapes_of(config)["params"], sep="/")
    expected = {"token_embedder/embedding": (32, 8), "decoder/logits_dense/kernel": (8, 32)}
    for stack in ("encoder", "decoder"):
        expected[f"{stack}/relpos_bias/rel_embedding"] = (2, 32)
        expected[f"{stack}/{stack}_norm/scale"] = (8,)
        for n in range(2):
            expected |= {f"{stack}/layers_{n}/{k}": v for k, v in t5x_tree(stack).items()}
    assert {name: x.shape for name, x in found.items()} == expected


def test_logical_axes_are_those_of_t5x():
    axes = shapes_of(T5Config(**FIELDS))["params_axes"]
    flat = traverse_util.flatten_dict(axes, sep="/")
    names = {name: tuple(x.names) for name, x in flat.items()}
    assert names["token_embedder/embedding_axes"] == ("vocab", "embed")
    assert names["encoder/layers_0/attention/query/kernel_axes"] == ("embed", "joined_kv")
    assert names["encoder/layers_0/attention/out/kernel_axes"] == ("joined_kv", "embed")
    assert names["encoder/layers_0/mlp/wi/kernel_axes"] == ("embed", "mlp")
    assert names["decoder/relpos_bias/rel_embedding_axes"] == ("heads", "relpos_buckets")
    scanned = shapes_of(T5Config(**FIELDS, scan_layers=True))["params_axes"]
    scanned = traverse_util.flatten_dict(scanned, sep="/")
    assert tuple(scanned["encoder/layers/mlp/wi/kernel_axes"].names) == ("layers", "embed", "mlp")


# From the published checkpoints' own counts (transformers, `num_parameters()`).
@pytest.mark.parametrize(
    ("size", "count"),
    [
        ("t5_1_0/small", 60_506_624),
        ("t5_1_0/base", 222_903_552),
        ("t5_1_0/large", 737_668_096),
        ("t5_1_0/xl", 2_851_598_336),
        ("t5_1_0/xxl", 11_307_321_344),
        ("t5_1_1/small", 76_961_152),
        ("t5_1_1/base", 247_577_856),
        ("t5_1_1/large", 783_150_080),
        ("t5_1_1/xl", 2_849_757_184),
        ("t5_1_1/xxl", 11_135_332_352),
        ("byt5/small", 299_637_760),
        ("byt5/base", 581_653_248),
        ("byt5/large", 1_228_183_552),
        ("byt5/xl", 3_737_801_728),
        ("byt5/xxl", 12_906_899_328),
    ],
)
def test_sizes_are_those_of_the_published_models(size, count):
    config = make_config(
        build(ModelOptions, Sources(model=size), scan_layers=True).shape
    )  # one layer is traced
    assert sum(x.size for x in jax.tree.leaves(shapes_of(config)["params"])) == count


@pytest.mark.parametrize(("tied", "unroll"), [(False, 1), (True, 2)])
def test_scanned_layers_compute_the_same(tied, unroll):
    changes = {"logits_via_embedding": tied, "mlp_activations": ("gelu", "linear")}
    unrolled = Transformer(T5Config(**FIELDS, **changes))
    scanned = Transformer(T5Config(**FIELDS, **changes, scan_layers=True, scan_unroll=unroll, remat="full"))
    tokens = jnp.array([[3, 4, 5, 1, 0], [6, 7, 1, 0, 0]])
    params = train_state.init_params(unrolled, 0)

    @functools.partial(jax.jit, static_argnums=0)
    def logits(model, params):
        return model.apply({"params": params}, tokens, tokens, tokens, enable_dropout=False)

    stacked = to_tree(from_tree(params), scan_layers=True)
    np.testing.assert_allclose(logits(scanned, stacked), logits(unrolled, params), atol=1e-5)
    back = to_tree(from_tree(stacked))
    jax.tree.map(np.testing.assert_array_equal, back, params)


@pytest.mark.parametrize("tied", [False, True])
def test_hidden_states_times_the_output_kernel_are_the_logits(tied):
    model = Transformer(T5Config(**FIELDS, logits_via_embedding=tied))
    tokens = jnp.array([[3, 4, 5, 1]])
    params = train_state.init_params(model, 0)
    apply = jax.jit(functools.partial(model.apply, enable_dropout=False), static_argnames="method")
    states = apply({"params": params}, tokens, tokens, tokens, method="hidden")
    kernel, scale = output_kernel(params, model.config)
    logits = apply({"params": params}, tokens, tokens, tokens)
    np.testing.assert_allclose((states * scale) @ kernel, logits, atol=1e-5)


def test_buckets_by_hand():
    distances = jnp.array([0, 1, 7, 8, 15, 16, 127, 128, 5000])
    # Bidirectional, keys behind: 16 buckets, 8 of them exact, the others logarithmic up to 128.
    behind = layers.relative_position_bucket(-distances, True, 32, 128)
    np.testing.assert_array_equal(behind, [0, 1, 7, 8, 9, 10, 15, 15, 15])
    ahead = layers.relative_position_bucket(distances, True, 32, 128)
    np.testing.assert_array_equal(ahead, [0, 17, 23, 24, 25, 26, 31, 31, 31])
    causal = layers.relative_position_bucket(-distances, False, 32, 128)
    np.testing.assert_array_equal(causal, [0, 1, 7, 8, 15, 16, 31, 31, 31])
    assert (layers.relative_position_bucket(distances, False, 32, 128) == 0).all()


@pytest.mark.parametrize(("queries", "keys", "first"), [(5, 5, 0), (1, 9, 4), (3, 7, 2)])
def test_the_bias_is_the_table_at_the_bucket_of_the_distance(queries, keys, first):
    module = layers.RelativePositionBias(2, False)
    query_positions, key_positions = jnp.arange(first, first + queries), jnp.arange(keys)
    variables = module.init(jax.random.key(0), query_positions, key_positions)
    bias = module.apply(variables, query_positions, key_positions)
    table = variables["params"]["rel_embedding"]
    distances = key_positions[None, :] - query_positions[:, None]
    buckets = layers.relative_position_bucket(distances, False, 32, 128)
    np.testing.assert_allclose(bias[0], table[:, buckets], atol=1e-6)


@pytest.mark.parametrize("vocab_size", [50, layers.ONE_HOT_IDS + 1])
def test_the_embedding_gradient_counts_every_token(vocab_size):
    tokens = jnp.array([[3, 3, 5]])
    table = jnp.ones((vocab_size, 2))
    grad = jax.grad(lambda t: (layers._lookup(t, tokens) * jnp.array([1.0, 2.0])).sum())(table)
    np.testing.assert_allclose(grad[3], [2.0, 4.0])
    np.testing.assert_allclose(grad[5], [1.0, 2.0])
    assert float(jnp.abs(grad).sum()) == 9.0


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("mlp_activations", ("swosh",), "'swosh' is none of"),
        ("remat", "some", "'some' is none of"),
        ("dtype", "int8", "'int8': use bfloat16 or float32"),
        ("dropout_rate", 1.0, r"must lie in \[0, 1\)"),
    ],
)
def test_unknown_settings_are_refused(field, value, message):
    with pytest.raises(UserError, match=message):
        T5Config(**{**FIELDS, field: value})
