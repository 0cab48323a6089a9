"""T5Gemma's parameters by their names in Hugging Face's folders, and its `config.json`."""

import pathlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from distill_jax.checkpoints.other_formats import gemma_names
from distill_jax.errors import UserError
from distill_jax.models.t5gemma import T5GemmaConfig

MODEL_TYPES, CONFIG = ("t5gemma",), T5GemmaConfig
EMBEDDING, HEAD = "model.decoder.embed_tokens.weight", "lm_head.out_proj.weight"
SKIPPED: dict[str, str] = {}
RENAMED: dict[str, str] = {}
UNUSED: tuple[str, ...] = ()
_UNBALANCED = ("emb_dim", "num_heads", "num_kv_heads", "mlp_dim")


def names(config: T5GemmaConfig) -> Iterator[tuple[str, str, bool]]:
    """(their name, our name, transposed) of every parameter."""
    yield EMBEDDING, "token_embedder/embedding", False
    yield "model.encoder.embed_tokens.weight", "encoder/token_embedder/embedding", False
    depths = (config.num_encoder_layers, config.num_decoder_layers)
    yield from gemma_names.stack_names("model.encoder", "encoder", depths[0], gemma_names.ENCODER)
    yield from gemma_names.stack_names("model.decoder", "decoder", depths[1], gemma_names.DECODER)
    if not config.logits_via_embedding:
        yield HEAD, "decoder/logits_dense/kernel", True


def copies(config: T5GemmaConfig) -> Iterator[str]:
    """Their names of tensors that repeat the decoder's embedding."""
    if config.logits_via_embedding:
        yield HEAD


def read_config(path: pathlib.Path, config: Mapping[str, Any], stored: Collection[str]) -> T5GemmaConfig:
    """The model that `config.json` describes."""
    stacks = {}
    for name in ("encoder", "decoder"):
        stack = config.get(name) or {}
        stacks[name] = gemma_names.read_stack(path, name, stack)
        rope = stack.get("rope_parameters") or stack
        if rope.get("rope_type", "default") != "default":
            raise UserError(f"{path}: {name}.rope_type is {rope['rope_type']!r}: T5Gemma has only default")
        stacks[name]["rope_base"] = float(rope.get("rope_theta", 10_000.0))
    encoder, decoder = stacks["encoder"], stacks["decoder"]
    gemma_names.same(path, encoder, decoder, _UNBALANCED)
    unbalanced = any(encoder[name] != decoder[name] for name in _UNBALANCED)
    own = {f"encoder_{name}": encoder[name] for name in _UNBALANCED} if unbalanced else {}
    depths = {"num_encoder_layers": encoder.pop("depth"), "num_decoder_layers": decoder.pop("depth")}
    tied = config.get("tie_word_embeddings", True)
    dropout = config.get("dropout_rate", 0.0)
    return T5GemmaConfig(**decoder, **own, **depths, logits_via_embedding=tied, dropout_rate=dropout)


def write_config(config: T5GemmaConfig) -> dict[str, Any]:
    """`config.json`."""
    rope = {"rope_type": "default", "rope_theta": config.rope_base}
    kind = {"model_type": "t5_gemma_module", "rope_theta": config.rope_base, "rope_parameters": rope}
    return {
        "architectures": ["T5GemmaForConditionalGeneration"],
        "model_type": "t5gemma",
        "encoder": gemma_names.write_stack(config.encoder_stack, config.num_encoder_layers) | kind,
        "decoder": gemma_names.write_stack(config, config.num_decoder_layers) | kind,
        "dropout_rate": config.dropout_rate,
        "tie_word_embeddings": config.logits_via_embedding,
        "is_encoder_decoder": True,
        "vocab_size": config.vocab_size,
        **gemma_names.SPECIAL_IDS,
    }
