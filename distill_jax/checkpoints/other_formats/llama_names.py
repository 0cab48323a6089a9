"""Parameters of the Llama kind by their names in Hugging Face's folders, and `config.json` of Llama and Qwen 3.

Kernels there are [out, in] and ours [in, out]. transformers 5 puts the rotary positions into `rope_parameters`,
older versions into `rope_theta` and `rope_scaling`.
"""

import pathlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from distill_jax.errors import UserError
from distill_jax.models.llama_config import LlamaConfig

MODEL_TYPES, CONFIG = ("llama", "qwen3"), LlamaConfig
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
SKIPPED: dict[str, str] = {}
RENAMED: dict[str, str] = {}
UNUSED: set[str] = set()
_SIZES = {  # in config.json: in `LlamaConfig`
    "vocab_size": "vocab_size",
    "hidden_size": "emb_dim",
    "intermediate_size": "mlp_dim",
    "num_attention_heads": "num_heads",
    "num_key_value_heads": "num_kv_heads",
    "num_hidden_layers": "num_decoder_layers",
    "head_dim": "head_dim",
}
# What config.json can state and our layers have built in.
_FIXED = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "use_sliding_window": False}
_LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")


def names(config: LlamaConfig) -> Iterator[tuple[str, str, bool]]:
    """(their name, our name, transposed) of every parameter."""
    yield EMBEDDING, "token_embedder/embedding", False
    yield "model.norm.weight", "decoder/decoder_norm/scale", False
    norms = {
        "input_layernorm": "pre_self_attention_layer_norm",
        "post_attention_layernorm": "pre_mlp_layer_norm",
    }
    if config.qk_norm:
        norms |= {f"self_attn.{x[0]}_norm": f"self_attention/{x}_norm" for x in ("query", "key")}
    kernels = {f"self_attn.{x[0]}_proj": f"self_attention/{x}" for x in ("query", "key", "value", "out")}
    kernels |= {"mlp.gate_proj": "mlp/wi_0", "mlp.up_proj": "mlp/wi_1", "mlp.down_proj": "mlp/wo"}
    for n in range(config.num_decoder_layers):
        theirs, ours = f"model.layers.{n}", f"decoder/layers_{n}"
        for name, our_name in kernels.items():
            yield f"{theirs}.{name}.weight", f"{ours}/{our_name}/kernel", True
        for name, our_name in norms.items():
            yield f"{theirs}.{name}.weight", f"{ours}/{our_name}/scale", False
    if not config.logits_via_embedding:
        yield HEAD, "decoder/logits_dense/kernel", True


def copies(config: LlamaConfig) -> Iterator[str]:
    """Their names of tensors that repeat the embedding."""
    if config.logits_via_embedding:
        yield HEAD


def _rope(path: pathlib.Path, config: Mapping[str, Any]) -> tuple[float, Sequence[float]]:
    """`rope_base` and `rope_scaling`."""
    stated = config.get("rope_parameters") or config.get("rope_scaling") or {}
    base = float(stated.get("rope_theta", config.get("rope_theta", 10_000.0)))
    kind = stated.get("rope_type", stated.get("type", "default"))
    if kind not in ("default", "linear", "llama3") or stated.get("partial_rotary_factor", 1.0) != 1.0:
        raise UserError(f"{path}: rotary positions of the type {kind!r}: expected default, linear or llama3")
    if kind == "default":
        return base, ()
    return base, tuple(float(stated[name]) for name in (_LLAMA3 if kind == "llama3" else _LLAMA3[:1]))


def read_config(path: pathlib.Path, config: Mapping[str, Any], stored: Collection[str]) -> LlamaConfig:
    """The model that `config.json` describes."""
    del stored
    for name, value in _FIXED.items():
        if config.get(name, value) != value:
            raise UserError(f"{path}: {name} is {config[name]!r}, this model can only have {value!r}")
    try:
        heads = config["num_attention_heads"]
        derived = {"num_key_value_heads": heads, "head_dim": config["hidden_size"] // heads}
        sizes = {**derived, **{name: value for name, value in config.items() if value is not None}}
        base, scaling = _rope(path, config)
        return LlamaConfig(
            **{ours: int(sizes[theirs]) for theirs, ours in _SIZES.items()},
            logits_via_embedding=bool(config.get("tie_word_embeddings", False)),
            norm_epsilon=float(config.get("rms_norm_eps", 1e-6)),
            qk_norm=config["model_type"] == "qwen3",
            rope_base=base,
            rope_scaling=scaling,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: not the config of a {config['model_type']}: {error!r}") from None


def write_config(config: LlamaConfig) -> dict[str, Any]:
    """`config.json`: of Qwen 3 where queries and keys are normed, else of Llama."""
    kind = "qwen3" if config.qk_norm else "llama"
    rope: dict[str, Any] = {"rope_theta": config.rope_base, "rope_type": "default"}
    if config.rope_scaling:
        rope["rope_type"] = "linear" if len(config.rope_scaling) == 1 else "llama3"
        rope |= zip(_LLAMA3, config.rope_scaling, strict=False)
    length = int(rope.get("original_max_position_embeddings", 8192) * rope.get("factor", 1.0))
    if "original_max_position_embeddings" in rope:
        rope["original_max_position_embeddings"] = int(rope["original_max_position_embeddings"])
    return {
        "architectures": ["Qwen3ForCausalLM" if config.qk_norm else "LlamaForCausalLM"],
        "model_type": kind,
        **{theirs: getattr(config, ours) for theirs, ours in _SIZES.items()},
        "rms_norm_eps": config.norm_epsilon,
        "rope_parameters": rope,
        "max_position_embeddings": length,
        "tie_word_embeddings": config.logits_via_embedding,
        **{name: value for name, value in _FIXED.items() if name != "mlp_bias" or kind == "llama"},
    }
