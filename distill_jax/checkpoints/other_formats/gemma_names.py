"""What Hugging Face's folders of the families made of Gemma share: names in a layer, fields of a config."""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from distill_jax.errors import UserError
from distill_jax.models.gemma import GemmaConfig

_SIZES = {  # in config.json: ours
    "hidden_size": "emb_dim",
    "intermediate_size": "mlp_dim",
    "num_attention_heads": "num_heads",
    "num_key_value_heads": "num_kv_heads",
}
_FIXED = {
    "hidden_activation": "gelu_pytorch_tanh",
    "rms_norm_eps": 1e-6,
    "attention_bias": False,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}
_ATTENTION = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "o_proj": "out"}
_MLP = {"gate_proj": "wi_0", "up_proj": "wi_1", "down_proj": "wo"}
FEED_FORWARD = ("mlp", "mlp", "feedforward", "mlp_norm", _MLP)
ENCODER = (("self_attn", "attention", "self_attn", "attention_norm", _ATTENTION), FEED_FORWARD)
# Of a sublayer: their name, ours, their norms', ours, and the names of its kernels.
SELF_ATTENTION = ("self_attn", "self_attention", "self_attn", "self_attention_norm", _ATTENTION)
CROSS_ATTENTION = ("cross_attn", "encoder_decoder_attention", "cross_attn", "cross_attention_norm", _ATTENTION)
DECODER = (SELF_ATTENTION, CROSS_ATTENTION, FEED_FORWARD)


def stack_names(theirs: str, ours: str, depth: int, sublayers, qk_norm: bool = False) -> Iterator[tuple]:
    """(their name, our name, transposed) of a stack's parameters: `theirs` is a prefix, `ours` its name."""
    yield f"{theirs}.norm.weight", f"{ours}/{ours}_norm/scale", False
    for n in range(depth):
        layer, our_layer = f"{theirs}.layers.{n}", f"{ours}/layers_{n}"
        for name, our_name, norm, our_norm, kernels in sublayers:
            for kernel, our_kernel in kernels.items():
                yield f"{layer}.{name}.{kernel}.weight", f"{our_layer}/{our_name}/{our_kernel}/kernel", True
            for place in ("pre", "post"):
                scale = f"{our_layer}/{place}_{our_norm}/scale"
                yield f"{layer}.{place}_{norm}_layernorm.weight", scale, False
            if qk_norm and kernels is _ATTENTION:
                yield f"{layer}.{name}.q_norm.weight", f"{our_layer}/{our_name}/query_norm/scale", False
                yield f"{layer}.{name}.k_norm.weight", f"{our_layer}/{our_name}/key_norm/scale", False


def read_stack(path: pathlib.Path, name: str, stack: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a `GemmaConfig` and `depth`, of the part `name` of `config.json`, at `path`."""
    for field, value in _FIXED.items():
        stated = stack.get(field)
        stated = stated[0] if isinstance(stated, list) and stated else stated  # of several ends the first
        if stated is not None and stated != value:
            raise UserError(f"{path}: {name}.{field} is {stated!r}, our layers can only have {value!r}")
    try:
        depth = int(stack["num_hidden_layers"])
        types = stack.get("layer_types") or ["full_attention"]
        every = types.index("full_attention") + 1 if "full_attention" in types else depth + 1
        fields = {ours: int(stack[theirs]) for theirs, ours in _SIZES.items()}
        fields |= {
            "vocab_size": int(stack["vocab_size"]),
            "depth": depth,
            "head_dim": int(stack["head_dim"]),
            "query_scalar": float(stack["query_pre_attn_scalar"]),
            "sliding_window": int(stack["sliding_window"]),
            "full_attention_every": every,
            "attention_logit_cap": float(stack.get("attn_logit_softcapping") or 0.0),
            "final_logit_cap": float(stack.get("final_logit_softcapping") or 0.0),
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: {name} is not the config of a Gemma: {error!r}") from None
    if layer_types(depth, every) != list(types):
        raise UserError(f"{path}: {name}.layer_types: expected full attention in every n-th layer, got {types}")
    return fields


def layer_types(depth: int, every: int) -> list[str]:
    """The kind of attention of each layer."""
    return ["sliding_attention" if (n + 1) % every else "full_attention" for n in range(depth)]


def same(path: pathlib.Path, encoder: Mapping[str, Any], decoder: Mapping[str, Any], free=()) -> None:
    """Raises a UserError where the encoder differs from the decoder in more than the `free` fields."""
    for name, value in decoder.items():
        if name not in (*free, "depth") and encoder[name] != value:
            raise UserError(
                f"{path}: {name} is {encoder[name]} in the encoder, {value} in the decoder: not read"
            )


def write_stack(config: GemmaConfig, depth: int) -> dict[str, Any]:
    """The part of `config.json` of a stack with the sizes of `config`, but for its rotary positions."""
    return {
        **{theirs: getattr(config, ours) for theirs, ours in _SIZES.items()},
        "num_key_value_heads": config.kv_heads,
        "num_hidden_layers": depth,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab_size,
        "query_pre_attn_scalar": _whole(config.query_scalar or config.head_dim),
        "sliding_window": config.sliding_window,
        "layer_types": layer_types(depth, config.full_attention_every),
        "attn_logit_softcapping": config.attention_logit_cap or None,
        "final_logit_softcapping": config.final_logit_cap or None,
        "tie_word_embeddings": config.logits_via_embedding,
        **_FIXED,
    }


def _whole(x: float) -> float | int:
    return int(x) if float(x).is_integer() else x


SPECIAL_IDS = {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0, "decoder_start_token_id": 2}
