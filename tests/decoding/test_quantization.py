import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_jax.decoding import quantization
from distill_jax.decoding.search import beam_decode
from distill_jax.errors import UserError
from distill_jax.models.config import T5Config
from distill_jax.models.t5 import Transformer
from distill_jax.training import train_state


@functools.cache
def student(scan_layers):
    sizes = {"emb_dim": 16, "num_heads": 2, "num_encoder_layers": 1, "num_decoder_layers": 2, "head_dim": 8}
    model = Transformer(T5Config(vocab_size=24, **sizes, mlp_dim=32, scan_layers=scan_layers))
    return model, train_state.init_params(model, 0)


@pytest.mark.parametrize("scan_layers", [False, True])
@pytest.mark.parametrize("kind, bits", [("bfloat16", 8), ("int8", 7)])
def test_what_is_lost_is_within_the_bits(kind, bits, scan_layers):
    if kind == "int8":
        pytest.importorskip("qwix")
    _, params = student(scan_layers)
    small = quantization.quantize(params, kind)
    size = sum(x.nbytes for x in jax.tree.leaves(small)) / sum(x.nbytes for x in jax.tree.leaves(params))
    assert size == pytest.approx({"bfloat16": 0.5, "int8": 0.37}[kind], abs=0.06)
    for before, after in zip(
        jax.tree.leaves(params), jax.tree.leaves(quantization.dequantize(small)), strict=True
    ):
        assert after.dtype == jnp.float32 and after.shape == before.shape
        assert np.abs(before - after).max() <= np.abs(before).max() / 2**bits


@pytest.mark.parametrize("kind", quantization.WEIGHTS)
def test_a_program_takes_quantized_parameters(kind):
    if kind == "int8":
        pytest.importorskip("qwix")
    model, params = student(False)
    small = quantization.quantize(params, kind)
    static = ("max_decode_length", "num_beams")
    decode = quantization.jit_dequantized(beam_decode, static_argnums=0, static_argnames=static)
    inputs = jnp.array([[5, 6, 1]])
    found = decode(model, small, inputs, max_decode_length=4, num_beams=2)
    expected = decode(model, quantization.dequantize(small), inputs, max_decode_length=4, num_beams=2)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1], atol=1e-5)


def test_other_weights_are_refused():
    with pytest.raises(UserError, match="expected one of float32, bfloat16, int8, got 'int4'"):
        quantization.quantize({}, "int4")
    assert quantization.quantize(params := {"x": 1}, "float32") is params
