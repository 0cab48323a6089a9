"""A T5 as CTranslate2 loads it: by its own specification, from our parameters, without torch and transformers.

The model knows ids alone: the token `"17"` is id 17. The decoder's first token is not part of it: a call gives
it as the first of the target prefix. `distill-jax export` writes what others load, with the tokenizer's texts.
"""

import importlib.metadata
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from distill_jax.checkpoints.other_formats.parameters import Parameters
from distill_jax.errors import UserError
from distill_jax.models.config import ModelConfig, T5Config

WEIGHTS = ("float32", "int8")
_ACTIVATIONS = {"relu": "RELU", "gelu": "GELUTanh", "silu": "SWISH", "swish": "SWISH"}
_BIAS_DISTANCE = 128  # what T5's layers have built in, as in `t5_names`
_EPSILON = 1e-6
_FORMAT = 1  # of what `write` makes


def missing() -> str | None:
    """Why CTranslate2 cannot be had here, and the command that installs it; None where it can."""
    try:
        import ctranslate2  # noqa: F401
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "ctranslate2":
            raise
        return "ctranslate2 is not installed: pip install 'distill_jax[ctranslate2]'"
    return None


def unfit(config: ModelConfig) -> str | None:
    """Why a network is not one that `write` can write; None where it is."""
    if not isinstance(config, T5Config) or config.family != "t5":
        return f"it has T5 students alone, this is a {config.family}"
    first, *gate = config.mlp_activations
    if first not in _ACTIVATIONS or gate not in ([], ["linear"]):
        return f"it has no feed-forward of {', '.join(config.mlp_activations)}"
    return None


def version() -> list[Any]:
    """What decides, beside the parameters, what `write` makes."""
    return [_FORMAT, importlib.metadata.version("ctranslate2")]


def write(
    folder: str | os.PathLike, parameters: Parameters, config: T5Config, eos_id: int, weights: str
) -> None:
    """Writes the model into a folder that exists; the whole of it is in memory meanwhile.

    Args:
      folder: exists.
      parameters: one per layer, of a T5 that `unfit` has nothing against.
      config: of the T5.
      eos_id: the end token.
      weights: of `WEIGHTS`; norms and biases stay float32.

    Raises:
      UserError: for other weights.
    """
    from ctranslate2.specs import Activation, TransformerSpec

    if weights not in WEIGHTS:
        raise UserError(f"weights: CTranslate2 has {' and '.join(WEIGHTS)} here, got {weights!r}")
    spec = TransformerSpec.from_config(
        (config.num_encoder_layers, config.num_decoder_layers),
        config.num_heads,
        activation=getattr(Activation, _ACTIVATIONS[config.mlp_activations[0]]),
        ffn_glu=len(config.mlp_activations) > 1,
        relative_attention_bias=True,
        rms_norm=True,
    )
    arrays = {name: parameter.read() for name, parameter in parameters.items()}
    embedding = arrays["token_embedder/embedding"]
    _fill_stack(spec.encoder, arrays, "encoder")
    _fill_stack(spec.decoder, arrays, "decoder")
    spec.encoder.embeddings[0].weight = spec.decoder.embeddings.weight = embedding
    if config.logits_via_embedding:
        spec.decoder.projection.weight = embedding
        spec.decoder.scale_outputs = np.float32(config.logits_scale)
    else:
        _fill_product(spec.decoder.projection, arrays, "decoder/logits_dense")
    tokens = [str(number) for number in range(len(embedding))]
    spec.register_source_vocabulary(tokens)
    spec.register_target_vocabulary(tokens)
    spec.config.eos_token = tokens[eos_id]
    spec.config.bos_token = spec.config.unk_token = tokens[0]  # of no meaning where all tokens are ids
    spec.config.decoder_start_token = None
    spec.config.layer_norm_epsilon = _EPSILON
    spec.validate()
    spec.optimize(quantization=weights)
    spec.save(str(folder))


def _fill_stack(spec: Any, arrays: Mapping[str, np.ndarray], stack: str) -> None:
    spec.scale_embeddings = False
    spec.layer_norm.gamma = arrays[f"{stack}/{stack}_norm/scale"]
    own = "attention" if stack == "encoder" else "self_attention"
    for number, layer in enumerate(spec.layer):
        place = f"{stack}/layers_{number}"
        attention = layer.self_attention
        attention.layer_norm.gamma = arrays[f"{place}/pre_{own}_layer_norm/scale"]
        _fill_attention(attention, arrays, f"{place}/{own}", [("query", "key", "value")])
        attention.relative_attention_bias = arrays[f"{stack}/relpos_bias/rel_embedding"].T
        attention.relative_attention_max_distance = np.int32(_BIAS_DISTANCE)
        if stack == "decoder":
            layer.attention.layer_norm.gamma = arrays[f"{place}/pre_cross_attention_layer_norm/scale"]
            parts = [("query",), ("key", "value")]
            _fill_attention(layer.attention, arrays, f"{place}/encoder_decoder_attention", parts)
        layer.ffn.layer_norm.gamma = arrays[f"{place}/pre_mlp_layer_norm/scale"]
        is_gated = f"{place}/mlp/wi_1/kernel" in arrays
        _fill_product(layer.ffn.linear_0, arrays, f"{place}/mlp/wi_0" if is_gated else f"{place}/mlp/wi")
        if is_gated:
            _fill_product(layer.ffn.linear_0_noact, arrays, f"{place}/mlp/wi_1")
        _fill_product(layer.ffn.linear_1, arrays, f"{place}/mlp/wo")


def _fill_attention(spec: Any, arrays: Mapping[str, np.ndarray], place: str, inputs: list[tuple]) -> None:
    """`inputs` are the kernels that each product before the attention is made of; T5 does not scale queries."""
    spec.queries_scale = np.float32(1.0)
    for product, names in zip(spec.linear, [*inputs, ("out",)], strict=True):
        _fill_product(product, arrays, *(f"{place}/{name}" for name in names))


def _fill_product(spec: Any, arrays: Mapping[str, np.ndarray], *places: str) -> None:
    """One [out, in] of our kernels, [in, out] each."""
    spec.weight = np.concatenate([arrays[f"{place}/kernel"].T for place in places])
