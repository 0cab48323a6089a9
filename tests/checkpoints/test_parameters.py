import dataclasses

import jax
import numpy as np
import pytest

from distill_jax.checkpoints.other_formats.parameters import (
    Parameter,
    Stacked,
    check,
    expected_shapes,
    from_tree,
    infer_config,
    stack,
    to_arrays,
    to_tree,
    unstack,
)
from distill_jax.errors import UserError
from distill_jax.models.config import T5Config

QUERY = "encoder/layers_1/attention/query/kernel"


@pytest.mark.parametrize("kind", ["1.0", "1.1", "gated and tied"])
def test_the_shapes_tell_the_architecture(make_student, kind):
    config, params = make_student(kind)
    assert infer_config("here", from_tree(params)) == config


def test_the_activation_must_be_said_where_it_is_not_the_usual(make_student):
    config, params = make_student("UL2")
    assert infer_config("here", from_tree(params), ("silu", "linear")) == config
    with pytest.raises(UserError, match="feed-forward of the checkpoint is gated"):
        infer_config("here", from_tree(params), ("relu",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.pop("token_embedder/embedding"), "no parameter token_embedder/embedding"),
        (
            lambda p: p.update({"token_embedder/embedding": Parameter((2, 3, 4), None)}),
            r"embedding has shape \[2, 3, 4\], expected 2 axes",
        ),
        (
            lambda p: p.update({"encoder/relpos_bias/rel_embedding": Parameter((5, 32), None)}),
            "24 columns, which the 5 heads",
        ),
    ],
)
def test_an_architecture_that_cannot_be_told_names_the_parameter(make_student, change, message):
    parameters = dict(from_tree(make_student()[1]))
    change(parameters)
    with pytest.raises(UserError, match=message):
        infer_config("here", parameters)


def test_a_check_names_the_parameter_and_both_shapes(make_student):
    config, params = make_student()
    parameters = dict(from_tree(params))
    check("here", parameters, config, "gin")
    missing = {name: p for name, p in parameters.items() if name != QUERY}
    with pytest.raises(UserError, match=rf"no parameter {QUERY}.*gin asks for one of shape \[16, 24\]"):
        check("here", missing, config, "gin")
    with pytest.raises(UserError, match=rf"{QUERY} has shape \[16, 23\], gin asks for \[16, 24\]"):
        check("here", {**parameters, QUERY: Parameter((16, 23), None)}, config, "gin")
    fewer = dataclasses.replace(config, num_encoder_layers=2)
    with pytest.raises(UserError, match=r"encoder/layers_2/\S+ of shape \[16, 24\] is unknown to gin"):
        check("here", parameters, fewer, "gin")
    larger = dataclasses.replace(config, vocab_size=64)
    with pytest.raises(UserError, match=r"logits_dense/kernel has shape \[16, 48\], gin asks for \[16, 64\]"):
        check("here", parameters, larger, "gin")


def test_stacked_layers_come_apart_and_together_again(make_student, assert_same):
    _, params = make_student()
    stacked = to_tree(from_tree(params), scan_layers=True)
    assert stacked["encoder"]["layers"]["mlp"]["wo"]["kernel"].shape == (3, 24, 16)
    assert_same(from_tree(stacked), params)
    np.testing.assert_array_equal(
        stacked["decoder"]["layers"]["mlp"]["wo"]["kernel"][1],
        params["decoder"]["layers_1"]["mlp"]["wo"]["kernel"],
    )


def test_a_layer_of_a_stacked_parameter_reads_only_its_slice():
    asked = []

    def fetch(index):
        asked.append(index)
        return np.zeros((6, 2, 3))[index]

    apart = unstack({"encoder/layers/mlp/wo/kernel": Parameter((6, 2, 3), fetch)})
    assert apart["encoder/layers_4/mlp/wo/kernel"].read().shape == (2, 3)
    assert apart["encoder/layers_4/mlp/wo/kernel"].fetch((0, 1)).shape == ()
    assert asked == [4, (4, 0, 1)]


def test_a_stacked_parameter_is_read_layer_by_layer():
    asked = []

    def layer(n):
        return Parameter((2, 3), lambda index: asked.append(n) or np.full((2, 3), n))

    together = stack({f"decoder/layers_{n}/mlp/wo/kernel": layer(n) for n in (1, 0, 2)})
    stacked = together["decoder/layers/mlp/wo/kernel"]
    assert stacked.shape == (3, 2, 3)
    pieces = stacked.pieces()
    next(pieces)
    assert asked == [0]
    assert [(n, piece[0, 0]) for n, piece in pieces] == [(1, 1), (2, 2)]


def test_expected_shapes_are_unrolled():
    config = T5Config(vocab_size=8, emb_dim=4, num_heads=1, num_encoder_layers=2, num_decoder_layers=1)
    assert expected_shapes(dataclasses.replace(config, scan_layers=True)) == expected_shapes(config)
    assert expected_shapes(config)["encoder/layers_1/mlp/wi/kernel"] == (4, 2048)


@pytest.mark.parametrize("scan_layers", [False, True])
def test_arrays_on_the_devices_are_those_of_the_tree(make_student, assert_same, scan_layers):
    _, params = make_student()
    expected = to_tree(from_tree(params), scan_layers)
    on_first = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shardings = jax.tree.map(lambda _: on_first, expected)
    for arrays in (
        to_arrays(from_tree(params), scan_layers),
        to_arrays(from_tree(params), scan_layers, shardings),
    ):
        jax.tree.map(np.testing.assert_array_equal, arrays, expected)
        assert all(isinstance(x, jax.Array) and x.dtype == np.float32 for x in jax.tree.leaves(arrays))


@pytest.mark.parametrize("layers", [slice(None), slice(2, 4)])
def test_a_part_of_stacked_layers_reads_only_that_part(layers):
    whole, asked = np.arange(24.0).reshape(4, 2, 3), []

    def layer(n):
        def fetch(index):
            asked.append((n, index))
            return whole[n][index]

        return Parameter((2, 3), fetch)

    stacked = Stacked(tuple(map(layer, range(4))))
    index = (layers, slice(0, 1), slice(1, 3))
    np.testing.assert_array_equal(stacked.read(index), whole[index])
    assert asked == [(n, index[1:]) for n in range(4)[layers]]
