"""T5Gemma's Flax checkpoints by the names and shapes of google-deepmind/gemma's modules, written by Orbax."""

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import traverse_util

from distill_jax.checkpoints.other_formats.parameters import expected_shapes
from distill_jax.checkpoints.reading import open_checkpoint
from distill_jax.errors import UserError
from distill_jax.models.families import make_config

SIZES = {
    "model_family": "t5gemma",
    "vocab_size": 48,
    "emb_dim": 16,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 8,
    "mlp_dim": 24,
    "num_encoder_layers": 2,
    "num_decoder_layers": 1,
}
LARGER_ENCODER = {
    "encoder_emb_dim": 20,
    "encoder_num_heads": 2,
    "encoder_num_kv_heads": 2,
    "encoder_mlp_dim": 28,
}


def to_theirs(config, params, *, transposed_gate=False):
    """Their tree of our parameters, an einsum's axes as their modules declare them."""
    theirs = {}
    encoder = config.encoder_stack
    for stack, cfg, depth in (("encoder", encoder, config.num_encoder_layers), ("decoder", config, 1)):
        own = "" if stack == "decoder" else "encoder/"
        theirs[f"{stack}/embedder/input_embedding"] = params[f"{own}token_embedder/embedding"]
        theirs[f"{stack}/final_norm/scale"] = params[f"{stack}/{stack}_norm/scale"]
        for n in range(depth):
            ours, name = f"{stack}/layers_{n}", f"{stack}/layer_{n}"
            attentions = {"attn": "attention" if own else "self_attention"}
            norms = {"attention": "attention_norm" if own else "self_attention_norm", "ffw": "mlp_norm"}
            if not own:
                attentions["cross_attn"] = "encoder_decoder_attention"
                norms["cross_attention"] = "cross_attention_norm"
            for their_name, our_name in attentions.items():

                def kernel(part, heads, our_name=our_name, ours=ours):
                    array = params[f"{ours}/{our_name}/{part}/kernel"]
                    return np.stack([array[:, n * 8 : n * 8 + 8] for n in range(heads)])

                query, key, value = (
                    kernel(part, heads)
                    for part, heads in (
                        ("query", cfg.num_heads),
                        ("key", cfg.kv_heads),
                        ("value", cfg.kv_heads),
                    )
                )
                if cfg.kv_heads == cfg.num_heads and their_name == "attn":
                    theirs[f"{name}/{their_name}/qkv_einsum/w"] = np.stack([query, key, value])
                else:
                    theirs[f"{name}/{their_name}/q_einsum/w"] = query
                    theirs[f"{name}/{their_name}/kv_einsum/w"] = np.stack([key, value])
                out = params[f"{ours}/{our_name}/out/kernel"]
                theirs[f"{name}/{their_name}/attn_vec_einsum/w"] = out.reshape(cfg.num_heads, 8, -1)
            gate = np.stack([params[f"{ours}/mlp/wi_{part}/kernel"] for part in (0, 1)])
            theirs[f"{name}/mlp/gating_einsum"] = gate.swapaxes(1, 2) if transposed_gate else gate
            theirs[f"{name}/mlp/linear"] = params[f"{ours}/mlp/wo/kernel"]
            for their_norm, our_norm in norms.items():
                for place in ("pre", "post"):
                    theirs[f"{name}/{place}_{their_norm}_norm/scale"] = params[
                        f"{ours}/{place}_{our_norm}/scale"
                    ]
    return theirs


def student(**changes):
    config = make_config(SIZES | changes)
    rng = np.random.default_rng(0)
    shapes = expected_shapes(config)
    return config, {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def save(folder, theirs, prefix=""):
    tree = traverse_util.unflatten_dict({prefix + name: jnp.asarray(x) for name, x in theirs.items()}, sep="/")
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(folder, tree)


@pytest.mark.parametrize(
    ("changes", "transposed_gate", "prefix"),
    [({}, False, ""), (LARGER_ENCODER, True, "transformer/"), ({"num_kv_heads": 4}, False, "params/")],
)
def test_it_is_read_bit_for_bit(tmp_path, assert_same, changes, transposed_gate, prefix):
    config, params = student(**changes)
    save(tmp_path / "flax", to_theirs(config, params, transposed_gate=transposed_gate), prefix)
    checkpoint = open_checkpoint(str(tmp_path / "flax"))
    assert checkpoint.format == "t5gemma-flax" and checkpoint.model_config() == config
    assert_same(checkpoint.parameters, traverse_util.unflatten_dict(params, sep="/"))


def test_bfloat16_comes_as_float32(tmp_path):
    config, params = student()
    theirs = {name: jnp.asarray(x, jnp.bfloat16) for name, x in to_theirs(config, params).items()}
    save(tmp_path / "flax", theirs)
    found = (
        open_checkpoint(str(tmp_path / "flax")).parameters["decoder/layers_0/self_attention/key/kernel"].read()
    )
    expected = params["decoder/layers_0/self_attention/key/kernel"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.asarray(jnp.asarray(expected, jnp.bfloat16), np.float32))


def test_a_missing_and_a_misshapen_parameter_are_named(tmp_path):
    config, params = student()
    theirs = to_theirs(config, params)
    del theirs["encoder/layer_1/mlp/linear"]
    save(tmp_path / "missing", theirs)
    with pytest.raises(UserError, match="no parameter encoder/layer_1/mlp/linear: not a T5Gemma, or not whole"):
        open_checkpoint(str(tmp_path / "missing"))
    theirs = to_theirs(config, params)
    theirs["decoder/final_norm/scale"] = np.zeros(7, np.float32)
    save(tmp_path / "misshapen", theirs)
    with pytest.raises(UserError, match=r"decoder/decoder_norm/scale has shape \[7\], its other .* \[16\]"):
        open_checkpoint(str(tmp_path / "misshapen"))
