"""Hugging Face's T5 folders, `config.json` and safetensors, read and written without transformers.

Kernels there are [out, in] and ours [in, out]; the relative bias sits in the first layer's self-attention
and is [buckets, heads]; a gated feed-forward is `DenseReluDense.wi_0`, `wi_1`. Tied logits are scaled by
1/sqrt(d_model) there, as ours are; `tie_word_embeddings` says whether.
"""

import json
import math
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors

from distill_jax.checkpoints.formats.parameters import Parameter, Parameters, check
from distill_jax.errors import UserError
from distill_jax.models.config import T5Config

_ACTIVATIONS = {
    "relu": ("relu",),
    "gelu": ("gelu",),
    "silu": ("silu",),
    "gated-relu": ("relu", "linear"),
    "gated-gelu": ("gelu", "linear"),
    "gated-silu": ("silu", "linear"),
}
# What T5 has and our layers do not let choose.
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
_DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
INDEX = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


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
        found = config.get(name)
        if found is not None and found != value:
            raise UserError(f"{path}: {name} is {found}, this T5 can only have {value}")
    return config


def _model_config(path: pathlib.Path, config: Mapping[str, Any], has_head: bool) -> T5Config:
    """The model that `config.json` and the names of the tensors describe.

    Tied and scaled logits go together. transformers 5 always saves `tie_word_embeddings: true`, and says
    `scale_decoder_outputs` beside it for T5; for mT5 only the stored `lm_head.weight` tells.
    """
    kind = config["model_type"]
    projection = config.get("feed_forward_proj", "relu" if kind == "t5" else "gated-gelu")
    if projection not in _ACTIVATIONS:
        raise UserError(f"{path}: feed_forward_proj {projection!r} is none of {', '.join(_ACTIVATIONS)}")
    tied = config.get("tie_word_embeddings", kind == "t5")
    tied = config.get("scale_decoder_outputs", tied and not (kind == "mt5" and has_head))
    try:
        return T5Config(
            vocab_size=int(config["vocab_size"]),
            emb_dim=int(config["d_model"]),
            num_heads=int(config["num_heads"]),
            num_encoder_layers=int(config["num_layers"]),
            num_decoder_layers=int(config.get("num_decoder_layers") or config["num_layers"]),
            head_dim=int(config["d_kv"]),
            mlp_dim=int(config["d_ff"]),
            mlp_activations=_ACTIVATIONS[projection],
            dropout_rate=config.get("dropout_rate", 0.1),
            logits_via_embedding=bool(tied),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not the config of a T5: {error!r}") from None


def refuse_pickle(path: str | os.PathLike) -> None:
    """Raises a UserError that says what to do instead; a pickle is never opened."""
    raise UserError(
        f"{path}: a pickle can run code and is not read; where transformers and torch are, save the model "
        'again as safetensors: python -c "from transformers import T5ForConditionalGeneration as T; '
        f"T.from_pretrained('{pathlib.Path(path).parent}').save_pretrained('safetensors')\""
    )


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    index = folder / INDEX
    if index.exists():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{index}: not an index of safetensors files: {error!r}") from None
        for name in names:
            if not name.endswith(".safetensors") or pathlib.PurePath(name).name != name:
                raise UserError(f"{index}: {name!r} is not a safetensors file beside it")
        return [folder / name for name in names]
    if (folder / "model.safetensors").exists():
        return [folder / "model.safetensors"]
    pickles = sorted(path for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles:
        refuse_pickle(pickles[0])
    raise UserError(f"{folder}: no model.safetensors in there")


def _stored(path: pathlib.Path) -> dict[str, Parameter]:
    """Their name -> parameter as it is stored in a file."""

    def fetch(name: str, index: Any) -> np.ndarray:
        # Opened each time: a mapped file would count all it has read as this process's memory.
        with safetensors.safe_open(path, framework="numpy") as file:
            return file.get_tensor(name) if index is ... else file.get_slice(name)[index]

    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            parameters = {}
            for name in file.keys():
                view = file.get_slice(name)
                if view.get_dtype() not in ("F64", *_DTYPES.values()):
                    raise UserError(f"{path}: {name} is stored as {view.get_dtype()}, expected floats")
                shape = tuple(view.get_shape())
                parameters[name] = Parameter(shape, lambda index, name=name: fetch(name, index))
            return parameters
    except FileNotFoundError:
        raise UserError(f"{path}: no such file: the checkpoint is not whole") from None
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a whole safetensors file: {_first_cut(path) or error}") from None


def _first_cut(path: pathlib.Path) -> str | None:
    """What a file that is too short lacks first; None when it is broken otherwise."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length < path.stat().st_size else {}
    except (ValueError, OSError):
        return None
    header.pop("__metadata__", None)
    there = path.stat().st_size - 8 - length
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        if end > there:
            found = max(there - begin, 0)
            return f"{name} of shape {entry['shape']} should have {end - begin} bytes, there are {found}"
    return None


def read_huggingface(folder: str | os.PathLike) -> tuple[Parameters, T5Config]:
    """Opens a folder that `transformers` saved.

    Returns:
      Our parameters and the config.

    Raises:
      UserError: naming the parameter and both shapes, when one is missing, does not fit or is unknown.
    """
    folder = pathlib.Path(folder)
    description = _read_config(folder / "config.json")
    stored: dict[str, Parameter] = {}
    for path in _files(folder):
        stored |= _stored(path)
    for name in _EMBEDDINGS:
        if name in stored:
            stored.setdefault("shared.weight", stored[name])
    config = _model_config(folder / "config.json", description, "lm_head.weight" in stored)
    repeated = [*_EMBEDDINGS, _UNUSED]
    if config.logits_via_embedding:
        repeated.append("lm_head.weight")
    elif description.get("tie_word_embeddings") and "shared.weight" in stored:
        stored.setdefault("lm_head.weight", stored["shared.weight"])  # tied, but not scaled
    names = {theirs: (ours, transposed) for theirs, ours, transposed in _names(config)}
    parameters = {}
    for theirs, parameter in stored.items():
        if theirs in names:
            ours, transposed = names[theirs]
            parameters[ours] = _transposed(parameter) if transposed else parameter
        elif theirs not in repeated:
            parameters[theirs] = parameter  # for `check` to refuse
    names_there = {ours: theirs for theirs, (ours, _) in names.items()}
    check(str(folder), parameters, config, "config.json", names_there)
    return parameters, config


def _transposed(parameter: Parameter) -> Parameter:
    return Parameter(parameter.shape[::-1], lambda index: parameter.fetch(...).T[index])


def _shards(
    tensors: Mapping[str, tuple[int, ...]], itemsize: int, limit: int
) -> list[tuple[str, dict[str, tuple[int, ...]]]]:
    """(file name, name -> shape) of each file; none is larger than `limit` bytes but for a tensor that is."""
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    size = 0
    for name, shape in tensors.items():
        nbytes = math.prod(shape) * itemsize
        if shards[-1] and size + nbytes > limit:
            shards.append({})
            size = 0
        shards[-1][name] = shape
        size += nbytes
    if len(shards) == 1:
        return [("model.safetensors", shards[0])]
    count = len(shards)
    return [(f"model-{n:05}-of-{count:05}.safetensors", shard) for n, shard in enumerate(shards, 1)]


def write_huggingface(
    folder: str | os.PathLike,
    parameters: Parameters,
    config: T5Config,
    dtype: str = "float32",
    shard_bytes: int = 5 * 10**9,
) -> None:
    """Writes a folder that `transformers.T5ForConditionalGeneration.from_pretrained` reads.

    Args:
      folder: made if need be.
      parameters: layers apart; one at a time is read.
      config: of the model.
      dtype: of the stored arrays; bfloat16 halves the files.
      shard_bytes: of a file at most; transformers' own default.

    Raises:
      UserError: when transformers has no such feed-forward.
    """
    projection = {activations: name for name, activations in _ACTIVATIONS.items()}
    activations = tuple("silu" if name == "swish" else name for name in config.mlp_activations)
    if activations not in projection:
        raise UserError(f"mlp_activations {activations}: transformers' T5 has only {', '.join(_ACTIVATIONS)}")
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    theirs = {ours: (name, transposed) for name, ours, transposed in _names(config)}
    # In the order of the source: a scanned run gives all layers of a parameter at once.
    sources = {theirs[ours][0]: (parameter, theirs[ours][1]) for ours, parameter in parameters.items()}
    shapes = {name: p.shape[::-1] if transposed else p.shape for name, (p, transposed) in sources.items()}
    itemsize = jnp.dtype(dtype).itemsize
    weight_map = {}
    for file_name, shard in _shards(shapes, itemsize, shard_bytes):
        _write_shard(folder / file_name, shard, sources, dtype)
        weight_map |= dict.fromkeys(shard, file_name)
    if len(set(weight_map.values())) > 1:
        total = sum(math.prod(shape) for shape in shapes.values()) * itemsize
        _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
    _write_json(
        folder / "config.json",
        {
            "architectures": ["T5ForConditionalGeneration"],
            "model_type": "t5",
            "vocab_size": config.vocab_size,
            "d_model": config.emb_dim,
            "d_kv": config.head_dim,
            "d_ff": config.mlp_dim,
            "num_heads": config.num_heads,
            "num_layers": config.num_encoder_layers,
            "num_decoder_layers": config.num_decoder_layers,
            "dropout_rate": config.dropout_rate,
            "feed_forward_proj": projection[activations],
            "tie_word_embeddings": config.logits_via_embedding,
            "is_encoder_decoder": True,
            "torch_dtype": dtype,
            **_FIXED,
        },
    )
    ids = {name: _FIXED[name] for name in ("decoder_start_token_id", "eos_token_id", "pad_token_id")}
    _write_json(folder / "generation_config.json", ids)


def _write_shard(
    path: pathlib.Path,
    shapes: Mapping[str, tuple[int, ...]],
    sources: Mapping[str, tuple[Parameter, bool]],
    dtype: str,
) -> None:
    """Writes a safetensors file tensor by tensor; the library's own writer wants all of them at once."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    numpy_dtype = jnp.dtype(dtype)
    offset = 0
    for name, shape in shapes.items():
        end = offset + math.prod(shape) * numpy_dtype.itemsize
        header[name] = {"dtype": _DTYPES[dtype], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for name in shapes:
            parameter, transposed = sources[name]
            array = parameter.read()
            array = (array.T if transposed else array).astype(numpy_dtype, order="C", copy=False)
            file.write(array.view(np.uint8).data)


def _write_json(path: pathlib.Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
