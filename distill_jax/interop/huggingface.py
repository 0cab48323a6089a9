"""Hugging Face's T5 folders, `config.json` and safetensors, read and written without transformers.

Kernels there are [out, in] and ours [in, out]; the relative bias sits in the first layer's self-attention
and is [buckets, heads]; a gated feed-forward is `DenseReluDense.wi_0`, `wi_1`. T5 1.0 scales its tied logits
by 1/sqrt(d_model), as ours do.
"""

import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import safetensors
from flax import traverse_util
from safetensors.numpy import save_file

from distill_jax.errors import UserError
from distill_jax.models.config import T5Config

_ACTIVATIONS = {
    "relu": ("relu",),
    "gated-gelu": ("gelu", "linear"),
    "gated-silu": ("silu", "linear"),
}


def _attention(theirs: str, ours: str) -> Iterator[tuple[str, str, bool]]:
    for short, name in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "out")):
        yield f"{theirs}.{short}.weight", f"{ours}/{name}/kernel", True


def _names(config: T5Config) -> Iterator[tuple[str, str, bool]]:
    """(their name, our name, transposed) of every parameter."""
    yield "shared.weight", "token_embedder/embedding", False
    gated = len(config.mlp_activations) > 1
    wi = ("wi_0", "wi_1") if gated else ("wi",)
    stacks = {"encoder": config.num_encoder_layers, "decoder": config.num_decoder_layers}
    for stack, count in stacks.items():
        is_decoder = stack == "decoder"
        yield (
            f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            f"{stack}/relpos_bias/rel_embedding",
            True,
        )
        yield f"{stack}.final_layer_norm.weight", f"{stack}/{stack}_norm/scale", False
        for n in range(count):
            theirs, ours = f"{stack}.block.{n}.layer", f"{stack}/layers_{n}"
            own = "self_attention" if is_decoder else "attention"
            yield from _attention(f"{theirs}.0.SelfAttention", f"{ours}/{own}")
            yield f"{theirs}.0.layer_norm.weight", f"{ours}/pre_{own}_layer_norm/scale", False
            if is_decoder:
                cross = f"{ours}/encoder_decoder_attention"
                yield from _attention(f"{theirs}.1.EncDecAttention", cross)
                norm = f"{ours}/pre_cross_attention_layer_norm/scale"
                yield f"{theirs}.1.layer_norm.weight", norm, False
            last = 2 if is_decoder else 1
            for name in (*wi, "wo"):
                their_kernel = f"{theirs}.{last}.DenseReluDense.{name}.weight"
                yield their_kernel, f"{ours}/mlp/{name}/kernel", True
            yield f"{theirs}.{last}.layer_norm.weight", f"{ours}/pre_mlp_layer_norm/scale", False
    if not config.logits_via_embedding:
        yield "lm_head.weight", "decoder/logits_dense/kernel", True


def _shapes(config: T5Config) -> dict[str, tuple[int, ...]]:
    """Our name -> shape of every parameter."""
    import jax

    from distill_jax.models.t5 import Transformer

    tokens = jax.ShapeDtypeStruct((1, 8), np.int32)
    model = Transformer(config)
    params = jax.eval_shape(
        lambda key, t: model.init(key, t, t, t, enable_dropout=False)["params"],
        jax.random.key(0),
        tokens,
    )
    return {k: x.shape for k, x in traverse_util.flatten_dict(params, sep="/").items()}


def read_config(folder: str | os.PathLike) -> T5Config:
    """Reads `config.json`.

    Raises:
      UserError: when there is none, or it is not of a T5 we know.
    """
    path = pathlib.Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text())
        return T5Config(
            vocab_size=config["vocab_size"],
            emb_dim=config["d_model"],
            num_heads=config["num_heads"],
            num_encoder_layers=config["num_layers"],
            num_decoder_layers=config.get("num_decoder_layers") or config["num_layers"],
            head_dim=config["d_kv"],
            mlp_dim=config["d_ff"],
            mlp_activations=_ACTIVATIONS[config.get("feed_forward_proj", "relu")],
            dropout_rate=config.get("dropout_rate", 0.1),
            logits_via_embedding=config.get("tie_word_embeddings", True),
        )
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (json.JSONDecodeError, KeyError) as error:
        raise UserError(f"{path}: not the config of a T5: {error!r}") from None


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    index = folder / "model.safetensors.index.json"
    if index.exists():
        return [folder / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
    if (folder / "model.safetensors").exists():
        return [folder / "model.safetensors"]
    pickles = sorted([*folder.glob("*.bin"), *folder.glob("*.pt")])
    if pickles:
        raise UserError(
            f"{pickles[0]}: a pickle can run code and is not read; save the model again with "
            "save_pretrained(..., safe_serialization=True)"
        )
    raise UserError(f"{folder}: no model.safetensors in there")


def load_huggingface(folder: str | os.PathLike) -> tuple[Mapping[str, Any], T5Config]:
    """Reads a folder that `transformers` saved.

    Returns:
      Our parameters, float32 numpy arrays with layers as `layers_<n>`, and the config.

    Raises:
      UserError: naming the parameter and both shapes, when one is missing or does not fit.
    """
    folder = pathlib.Path(folder)
    config = read_config(folder)
    shapes = _shapes(config)
    names = {theirs: (ours, transposed) for theirs, ours, transposed in _names(config)}
    params: dict[str, np.ndarray] = {}
    for path in _files(folder):
        try:
            with safetensors.safe_open(path, framework="flax") as file:
                for theirs in file.keys():
                    if theirs not in names:
                        continue  # `encoder.embed_tokens.weight` and the like repeat `shared.weight`
                    ours, transposed = names[theirs]
                    array = np.asarray(file.get_tensor(theirs)).astype(np.float32)
                    array = array.T if transposed else array
                    if array.shape != shapes[ours]:
                        raise UserError(
                            f"{path}: {theirs} gives {ours} the shape {list(array.shape)}, "
                            f"config.json asks for {list(shapes[ours])}"
                        )
                    params[ours] = array
        except (safetensors.SafetensorError, OSError) as error:
            raise UserError(f"{path}: not a whole safetensors file: {error}") from None
    for theirs, (ours, _) in names.items():
        if ours not in params:
            raise UserError(f"{folder}: no parameter {theirs}: not the T5 that config.json describes")
    return traverse_util.unflatten_dict(params, sep="/"), config


def save_huggingface(
    folder: str | os.PathLike, params: Mapping[str, Any], config: T5Config, dtype: Any = np.float32
) -> None:
    """Writes a folder that `transformers.T5ForConditionalGeneration.from_pretrained` reads.

    Args:
      folder: made if need be.
      params: with layers as `layers_<n>`.
      config: of the model.
      dtype: of the stored arrays; `ml_dtypes.bfloat16` halves the file.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    flat = traverse_util.flatten_dict(params, sep="/")
    tensors = {}
    for theirs, ours, transposed in _names(config):
        array = np.asarray(flat[ours])
        tensors[theirs] = np.ascontiguousarray((array.T if transposed else array).astype(dtype))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    projection = {activations: name for name, activations in _ACTIVATIONS.items()}
    description = {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "vocab_size": config.vocab_size,
        "d_model": config.emb_dim,
        "d_kv": config.head_dim,
        "d_ff": config.mlp_dim,
        "num_heads": config.num_heads,
        "num_layers": config.num_encoder_layers,
        "num_decoder_layers": config.num_decoder_layers,
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "dropout_rate": config.dropout_rate,
        "layer_norm_epsilon": 1e-6,
        "feed_forward_proj": projection[tuple(config.mlp_activations)],
        "tie_word_embeddings": config.logits_via_embedding,
        "is_encoder_decoder": True,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    }
    (folder / "config.json").write_text(json.dumps(description, indent=2) + "\n")
