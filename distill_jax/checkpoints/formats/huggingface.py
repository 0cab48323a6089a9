"""Hugging Face's T5 folders, `config.json` and safetensors, read and written without transformers.

Kernels there are [out, in] and ours [in, out]; the relative bias sits in the first layer's self-attention
and is [buckets, heads]; a gated feed-forward is `DenseReluDense.wi_0`, `wi_1`. Tied logits are scaled by
1/sqrt(d_model) there, as ours are; `tie_word_embeddings` says whether.
"""

import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from distill_jax.checkpoints.formats.parameters import Parameter, Parameters, check
from distill_jax.checkpoints.formats.safetensors_files import read_tensors, write_tensors
from distill_jax.errors import UserError
from distill_jax.models.config import T5Config

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
_EMBEDDINGS = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")  # each is `shared.weight` again
_UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"  # in the first T5s


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


def _names(config: T5Config) -> Iterator[tuple[str, str, bool]]:
    """(their name, our name, transposed) of every parameter."""
    yield "shared.weight", "token_embedder/embedding", False
    attention = {"q": "query", "k": "key", "v": "value", "o": "out"}
    wi = ("wi_0", "wi_1") if len(config.mlp_activations) > 1 else ("wi",)
    mlp = {name: name for name in (*wi, "wo")}
    for stack, depth in (("encoder", config.num_encoder_layers), ("decoder", config.num_decoder_layers)):
        bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        yield bias, f"{stack}/relpos_bias/rel_embedding", True
        yield f"{stack}.final_layer_norm.weight", f"{stack}/{stack}_norm/scale", False
        for n in range(depth):
            for m, (theirs, ours, norm) in enumerate(_SUBLAYERS[stack]):
                layer = f"{stack}.block.{n}.layer.{m}"
                for kernel, our_kernel in (mlp if ours == "mlp" else attention).items():
                    our_name = f"{stack}/layers_{n}/{ours}/{our_kernel}/kernel"
                    yield f"{layer}.{theirs}.{kernel}.weight", our_name, True
                yield f"{layer}.layer_norm.weight", f"{stack}/layers_{n}/{norm}/scale", False
    if not config.logits_via_embedding:
        yield "lm_head.weight", "decoder/logits_dense/kernel", True


def _read_config(path: pathlib.Path) -> dict[str, Any]:
    """`config.json`, of a T5 our layers can be."""
    try:
        config = json.loads(path.read_text())
        kind = config.get("model_type")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path}: not the config of a T5: {error!r}") from None
    if kind not in ("t5", "mt5"):
        raise UserError(f"{path}: not the config of a T5: expected the model_type t5 or mt5, found {kind!r}")
    for name, value in _FIXED.items():
        stated = config.get(name)
        if stated is not None and stated != value:
            raise UserError(f"{path}: {name} is {stated}, this T5 can only have {value}")
    return config


def _model_config(path: pathlib.Path, config: Mapping[str, Any], has_head: bool) -> T5Config:
    """The model that `config.json` and the names of the tensors describe.

    Tied and scaled logits go together. transformers 5 always saves `tie_word_embeddings: true`, and says
    `scale_decoder_outputs` beside it for T5; for mT5 only the stored `lm_head.weight` tells.
    """
    kind = config["model_type"]
    projection = config.get("feed_forward_proj", "relu" if kind == "t5" else "gated-gelu")
    projection = "gated-gelu" if projection == "gated-gelu_new" else projection
    if projection not in _ACTIVATIONS:
        exact = "; T5X's and our GELU is gelu_new, the tanh approximation" if projection == "gelu" else ""
        raise UserError(f"{path}: feed_forward_proj {projection!r} is none of {', '.join(_ACTIVATIONS)}{exact}")
    tied = config.get("tie_word_embeddings", kind == "t5")
    tied = config.get("scale_decoder_outputs", tied and not (kind == "mt5" and has_head))
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


def read_huggingface(folder: str | os.PathLike) -> tuple[Parameters, T5Config]:
    """Our parameters and the config of a folder that `transformers` saved.

    Raises UserError, naming the parameter and both shapes, when one is missing, does not fit or is unknown.
    """
    folder = pathlib.Path(folder)
    description = _read_config(folder / "config.json")
    stored = read_tensors(folder)
    for name in _EMBEDDINGS:
        if name in stored:
            stored.setdefault("shared.weight", stored[name])
    config = _model_config(folder / "config.json", description, "lm_head.weight" in stored)
    copies = [*_EMBEDDINGS, *(["lm_head.weight"] if config.logits_via_embedding else [])]
    _check_copies(folder, stored, copies)
    if not config.logits_via_embedding and description.get("tie_word_embeddings") and "shared.weight" in stored:
        stored.setdefault("lm_head.weight", stored["shared.weight"])  # tied, but not scaled
    names = {theirs: (ours, transposed) for theirs, ours, transposed in _names(config)}
    parameters = {}
    for theirs, parameter in stored.items():
        if theirs in names:
            ours, transposed = names[theirs]
            parameters[ours] = _transpose(parameter) if transposed else parameter
        elif theirs not in (*copies, _UNUSED):
            parameters[theirs] = parameter  # for `check` to refuse
    file_names = {ours: theirs for theirs, (ours, _) in names.items()}
    check(str(folder), parameters, config, "config.json", file_names)
    return parameters, config


def _transpose(parameter: Parameter) -> Parameter:
    return Parameter(parameter.shape[::-1], lambda index: parameter.fetch(...).T[index])


def _check_copies(folder: pathlib.Path, stored: Mapping[str, Parameter], names: Iterable[str]) -> None:
    """Refuses tensors that T5 has only as copies of the embedding, and that are others in the files."""
    embedding = stored.get("shared.weight")
    for name in names:
        copy = stored.get(name)
        if copy is None or embedding is None or copy is embedding:
            continue
        if copy.shape != embedding.shape or not np.array_equal(copy.read(), embedding.read()):
            raise UserError(
                f"{folder}: {name} differs from shared.weight, which T5 has in its place: the model was "
                "trained with two embeddings, or with an output layer that tie_word_embeddings denies"
            )


def write_huggingface(
    folder: str | os.PathLike, parameters: Parameters, config: T5Config, dtype="float32", shard_bytes=5 * 10**9
) -> None:
    """Writes a folder, made if need be, that `transformers.T5ForConditionalGeneration.from_pretrained` reads.

    The parameters, one per layer, are read one at a time. `shard_bytes` of a file at most are transformers' own
    default; bfloat16 halves the files. Raises UserError when transformers has no such feed-forward.
    """
    projection = {activations: name for name, activations in _ACTIVATIONS.items()}
    activations = tuple("silu" if name == "swish" else name for name in config.mlp_activations)
    if activations not in projection:
        raise UserError(f"mlp_activations {activations}: transformers' T5 has only {', '.join(_ACTIVATIONS)}")
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    theirs = {ours: (name, transposed) for name, ours, transposed in _names(config)}
    # In the order of the source: a scanned run gives all layers of a parameter at once.
    tensors = {}
    for ours, parameter in parameters.items():
        name, transposed = theirs[ours]
        tensors[name] = _transpose(parameter) if transposed else parameter
    write_tensors(folder, tensors, dtype, shard_bytes)
    description = {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        **{theirs: getattr(config, ours) for theirs, ours in _SIZES.items()},
        "dropout_rate": config.dropout_rate,
        "feed_forward_proj": projection[activations],
        "tie_word_embeddings": config.logits_via_embedding,
        "is_encoder_decoder": True,
        "torch_dtype": dtype,
        **_FIXED,
    }
    ids = {name: _FIXED[name] for name in ("decoder_start_token_id", "eos_token_id", "pad_token_id")}
    for name, content in (("config.json", description), ("generation_config.json", ids)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
