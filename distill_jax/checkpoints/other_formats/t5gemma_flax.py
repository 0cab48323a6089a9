"""T5Gemma's checkpoints in Flax, as `google-deepmind/gemma` names their parameters (gemma/research/t5gemma).

Kernels have an axis for heads there: queries [heads, embed, head_dim], keys and values [2, heads, embed,
head_dim], or all three in one where there are as many; the output is [heads, head_dim, embed]. The two kernels
of the gate are one array [2, embed, mlp], or [2, mlp, embed] of the 9B. What shapes do not tell (caps, window,
rotary positions) is T5Gemma's own.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from distill_jax.checkpoints.other_formats.parameters import Parameter, Parameters, check
from distill_jax.errors import UserError
from distill_jax.models.t5gemma import T5GemmaConfig

_EMBEDDING = re.compile(r"^(.*/)?(encoder|decoder)/embedder/input_embedding$")
_NORMS = {
    "encoder": {"attention": "attention_norm", "ffw": "mlp_norm"},
    "decoder": {
        "attention": "self_attention_norm",
        "cross_attention": "cross_attention_norm",
        "ffw": "mlp_norm",
    },
}


def is_t5gemma(names: Iterable[str]) -> bool:
    """Whether these names are those of a T5Gemma in Flax."""
    return {match[2] for match in map(_EMBEDDING.match, names) if match} == {"encoder", "decoder"}


def _derived(source: Parameter, shape: tuple[int, ...], convert: Callable[[np.ndarray], np.ndarray], part=...):
    """A parameter made of one of theirs, or of entry `part` of its first axis, when it is read."""
    return Parameter(shape, lambda index: convert(np.asarray(source.fetch(part)))[index])


def _inward(source: Parameter, part: Any = ...) -> Parameter:
    """[heads, embed, head_dim] -> [embed, heads * head_dim]."""
    heads, embed, head_dim = source.shape[-3:]
    shape = (embed, heads * head_dim)
    return _derived(source, shape, lambda x: x.transpose(1, 0, 2).reshape(shape), part)


def _outward(source: Parameter) -> Parameter:
    """[heads, head_dim, embed] -> [heads * head_dim, embed]."""
    shape = (source.shape[0] * source.shape[1], source.shape[2])
    return _derived(source, shape, lambda x: x.reshape(shape))


def _attention(theirs: Parameters, name: str, ours: str) -> Iterator[tuple[str, Parameter]]:
    joint = theirs.get(f"{name}/qkv_einsum/w")
    if joint is not None:
        for part, kernel in enumerate(("query", "key", "value")):
            yield f"{ours}/{kernel}/kernel", _inward(joint, part)
    else:
        yield f"{ours}/query/kernel", _inward(theirs[f"{name}/q_einsum/w"])
        for part, kernel in enumerate(("key", "value")):
            yield f"{ours}/{kernel}/kernel", _inward(theirs[f"{name}/kv_einsum/w"], part)
    yield f"{ours}/out/kernel", _outward(theirs[f"{name}/attn_vec_einsum/w"])


def _mlp(theirs: Parameters, name: str, ours: str, embed: int) -> Iterator[tuple[str, Parameter]]:
    gate = theirs[f"{name}/gating_einsum"]
    transposed = gate.shape[1] != embed
    shape = gate.shape[1:][::-1] if transposed else gate.shape[1:]
    for part in (0, 1):
        kernel = _derived(gate, shape, lambda x: x.T if transposed else x, part)
        yield f"{ours}/wi_{part}/kernel", kernel
    yield f"{ours}/wo/kernel", theirs[f"{name}/linear"]


def _stack(theirs: Parameters, stack: str, depth: int) -> Iterator[tuple[str, Parameter]]:
    yield f"{stack}/{stack}_norm/scale", theirs[f"{stack}/final_norm/scale"]
    embed = theirs[f"{stack}/embedder/input_embedding"].shape[1]
    for n in range(depth):
        name, ours = f"{stack}/layer_{n}", f"{stack}/layers_{n}"
        own = "attention" if stack == "encoder" else "self_attention"
        yield from _attention(theirs, f"{name}/attn", f"{ours}/{own}")
        if stack == "decoder":
            yield from _attention(theirs, f"{name}/cross_attn", f"{ours}/encoder_decoder_attention")
        yield from _mlp(theirs, f"{name}/mlp", f"{ours}/mlp", embed)
        for their_norm, our_norm in _NORMS[stack].items():
            for place in ("pre", "post"):
                yield f"{ours}/{place}_{our_norm}/scale", theirs[f"{name}/{place}_{their_norm}_norm/scale"]


def read_t5gemma(where: str, parameters: Parameters) -> tuple[Parameters, T5GemmaConfig]:
    """Our parameters, read when they are asked for, and the config.

    Raises:
      UserError: when the checkpoint `where` lacks a parameter, or one has another shape than the others say.
    """
    prefix = next(match[1] or "" for match in map(_EMBEDDING.match, parameters) if match)
    theirs = {name.removeprefix(prefix): parameter for name, parameter in parameters.items()}
    layers = {match[0] for match in map(re.compile(r"(?:encoder|decoder)/layer_\d+/").match, theirs) if match}
    depth = {stack: sum(name.startswith(stack) for name in layers) for stack in _NORMS}
    ours: dict[str, Parameter] = {}
    try:
        for stack in _NORMS:
            ours |= _stack(theirs, stack, depth[stack])
        sizes = {stack: _sizes(theirs, stack) for stack in _NORMS}
    except KeyError as error:
        raise UserError(f"{where}: no parameter {prefix}{error.args[0]}: not a T5Gemma, or not whole") from None
    ours["token_embedder/embedding"] = theirs["decoder/embedder/input_embedding"]
    ours["encoder/token_embedder/embedding"] = theirs["encoder/embedder/input_embedding"]
    unbalanced = {} if sizes["encoder"] == sizes["decoder"] else sizes["encoder"]
    config = T5GemmaConfig(
        vocab_size=ours["token_embedder/embedding"].shape[0],
        head_dim=theirs["decoder/layer_0/attn/attn_vec_einsum/w"].shape[1],
        num_encoder_layers=depth["encoder"],
        num_decoder_layers=depth["decoder"],
        **sizes["decoder"],
        **{f"encoder_{name}": size for name, size in unbalanced.items()},
    )
    check(where, ours, config, "its other parameters")
    return ours, config


def _sizes(theirs: Parameters, stack: str) -> dict[str, int]:
    attention = f"{stack}/layer_0/attn"
    num_heads, _, embed = theirs[f"{attention}/attn_vec_einsum/w"].shape
    key = theirs.get(f"{attention}/qkv_einsum/w") or theirs[f"{attention}/kv_einsum/w"]
    mlp_dim = theirs[f"{stack}/layer_0/mlp/linear"].shape[0]
    return {"emb_dim": embed, "num_heads": num_heads, "num_kv_heads": key.shape[1], "mlp_dim": mlp_dim}
