"""T5's parameters by their names in Hugging Face's folders, and its `config.json`.

Kernels there are [out, in] and ours [in, out]; the relative bias sits in the first layer's self-attention
and is [buckets, heads]; a gated feed-forward is `DenseReluDense.wi_0`, `wi_1`. Tied logits are scaled by
1/sqrt(d_model) there, as ours are; `tie_word_embeddings` says whether.
"""

import pathlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from distill_jax.errors import UserError
from distill_jax.models.config import T5Config

MODEL_TYPES, CONFIG = ("t5", "mt5"), T5Config
_ACTIVATIONS = {
    "relu": ("relu",),
    "gelu_new": ("gelu",),
    "silu": ("silu",),
    "gated-relu": ("relu", "linear"),
    "gated-gelu": ("gelu", "linear"),
    "gated-silu": ("silu", "linear"),
}
_SIZES = {  # in config.json: in `T5Config`
    "vocab_size": "vocab_size",
    "d_model": "emb_dim",
    "d_kv": "head_dim",
    "d_ff": "mlp_dim",
    "num_heads": "num_heads",
    "num_layers": "num_encoder_layers",
    "num_decoder_layers": "num_decoder_layers",
}
# What config.json can state and our layers have built in.
_FIXED = {
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
}
EMBEDDING, HEAD = "shared.weight", "lm_head.weight"
SKIPPED: dict[str, str] = {}
RENAMED: dict[str, str] = {}
UNUSED = {"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"}  # in the first T5s


BIAS = "layer.0.SelfAttention.relative_attention_bias.weight"

# Of each stack, the sublayers of a layer in order: their name, ours, and ours of the norm before it.
_FEED_FORWARD = ("DenseReluDense", "mlp", "pre_mlp_layer_norm")
_SUBLAYERS = {
    "encoder": (("SelfAttention", "attention", "pre_attention_layer_norm"), _FEED_FORWARD),
    "decoder": (
        ("SelfAttention", "self_attention", "pre_self_attention_layer_norm"),
        ("EncDecAttention", "encoder_decoder_attention", "pre_cross_attention_layer_norm"),
        _FEED_FORWARD,
    ),
}


def kernels_and_norms(config: T5Config) -> Iterator[tuple[str, str, bool]]:
    """(their name, our name, transposed) of every parameter but the position biases."""
    yield EMBEDDING, "token_embedder/embedding", False
    attention = {"q": "query", "k": "key", "v": "value", "o": "out"}
    wi = ("wi_0", "wi_1") if len(config.mlp_activations) > 1 else ("wi",)
    mlp = {name: name for name in (*wi, "wo")}
    for stack, depth in (("encoder", config.num_encoder_layers), ("decoder", config.num_decoder_layers)):
        yield f"{stack}.final_layer_norm.weight", f"{stack}/{stack}_norm/scale", False
        for n in range(depth):
            for m, (theirs, ours, norm) in enumerate(_SUBLAYERS[stack]):
                layer = f"{stack}.block.{n}.layer.{m}"
                for kernel, our_kernel in (mlp if ours == "mlp" else attention).items():
                    our_name = f"{stack}/layers_{n}/{ours}/{our_kernel}/kernel"
                    yield f"{layer}.{theirs}.{kernel}.weight", our_name, True
                yield f"{layer}.layer_norm.weight", f"{stack}/layers_{n}/{norm}/scale", False
    if not config.logits_via_embedding:
        yield HEAD, "decoder/logits_dense/kernel", True


def names(config: T5Config) -> Iterator[tuple[str, str, bool]]:
    """(their name, our name, transposed) of every parameter."""
    yield from kernels_and_norms(config)
    for stack in ("encoder", "decoder"):
        yield f"{stack}.block.0.{BIAS}", f"{stack}/relpos_bias/rel_embedding", True


def read_config(path: pathlib.Path, config: Mapping[str, Any], stored: Collection[str]) -> T5Config:
    """The model that `config.json` and the names of the tensors describe.

    Tied and scaled logits go together. transformers 5 always saves `tie_word_embeddings: true`, and says
    `scale_decoder_outputs` beside it for T5; for mT5 and UMT5 only the stored `lm_head.weight` tells.
    """
    for name, value in _FIXED.items():
        stated = config.get(name)
        if stated is not None and stated != value:
            raise UserError(f"{path}: {name} is {stated}, this T5 can only have {value}")
    kind, has_head = config["model_type"], HEAD in stored
    projection = config.get("feed_forward_proj", "relu" if kind == "t5" else "gated-gelu")
    projection = "gated-gelu" if projection == "gated-gelu_new" else projection
    if projection not in _ACTIVATIONS:
        exact = "; T5X's and our GELU is gelu_new, the tanh approximation" if projection == "gelu" else ""
        raise UserError(f"{path}: feed_forward_proj {projection!r} is none of {', '.join(_ACTIVATIONS)}{exact}")
    tied = config.get("tie_word_embeddings", kind == "t5")
    tied = config.get("scale_decoder_outputs", tied and not (kind != "t5" and has_head))
    try:
        decoder_layers = config.get("num_decoder_layers") or config["num_layers"]
        config = {**config, "num_decoder_layers": decoder_layers}
        return T5Config(
            **{ours: int(config[theirs]) for theirs, ours in _SIZES.items()},
            mlp_activations=_ACTIVATIONS[projection],
            dropout_rate=config.get("dropout_rate", 0.1),
            logits_via_embedding=bool(tied),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not the config of a T5: {error!r}") from None


def copies(config: T5Config) -> Iterator[str]:
    """Their names of tensors that a T5 has only as copies of the embedding."""
    yield from ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    if config.logits_via_embedding:
        yield HEAD


def write_config(config: T5Config) -> dict[str, Any]:
    """`config.json`; raises UserError when transformers has no such feed-forward."""
    projection = {activations: name for name, activations in _ACTIVATIONS.items()}
    activations = tuple("silu" if name == "swish" else name for name in config.mlp_activations)
    if activations not in projection:
        raise UserError(f"mlp_activations {activations}: transformers' T5 has only {', '.join(_ACTIVATIONS)}")
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        **{theirs: getattr(config, ours) for theirs, ours in _SIZES.items()},
        "dropout_rate": config.dropout_rate,
        "feed_forward_proj": projection[activations],
        "tie_word_embeddings": config.logits_via_embedding,
        "is_encoder_decoder": True,
        **_FIXED,
    }
