"""T5Gemma 2's parameters by their names in Hugging Face's folders, and its `config.json`; text only."""

import pathlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from distill_jax.checkpoints.other_formats import gemma_names
from distill_jax.errors import UserError
from distill_jax.models.t5gemma2 import T5Gemma2Config

MODEL_TYPES, CONFIG = ("t5gemma2",), T5Gemma2Config
EMBEDDING, HEAD = "model.encoder.embed_tokens.weight", "lm_head.out_proj.weight"
SKIPPED = {
    r"model\.encoder\.vision_tower\.": "the vision tower",
    r"model\.encoder\.multi_modal_projector\.": "the vision tower's projection",
}
UNUSED = ("model.decoder.embed_tokens.eoi_embedding",)  # the encoder's again
RENAMED = {r"model\.encoder\.text_model\.": "model.encoder."}  # transformers writes either
_END_OF_IMAGE = "model.encoder.embed_tokens.eoi_embedding"
_MERGED_DECODER = (gemma_names.SELF_ATTENTION, gemma_names.FEED_FORWARD)
_VISION = {
    "model_type": "siglip_vision_model",
    "image_size": 56,
    "patch_size": 14,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_attention_heads": 1,
    "num_hidden_layers": 1,
}


def names(config: T5Gemma2Config) -> Iterator[tuple[str, str, bool]]:
    """(their name, our name, transposed) of every parameter."""
    yield EMBEDDING, "token_embedder/embedding", False
    if config.end_of_image_id:
        yield _END_OF_IMAGE, "token_embedder/end_of_image", False
    depths = (config.num_encoder_layers, config.num_decoder_layers)
    yield from gemma_names.stack_names("model.encoder", "encoder", depths[0], gemma_names.ENCODER, True)
    yield from gemma_names.stack_names("model.decoder", "decoder", depths[1], _MERGED_DECODER, True)
    if not config.logits_via_embedding:
        yield HEAD, "decoder/logits_dense/kernel", True


def copies(config: T5Gemma2Config) -> Iterator[str]:
    """Their names of tensors that repeat the embedding."""
    yield "model.decoder.embed_tokens.weight"
    if config.logits_via_embedding:
        yield HEAD


def _ropes(path: pathlib.Path, name: str, stack: Mapping[str, Any]) -> dict[str, Any]:
    """Bases and scale of the rotary positions."""
    ropes = stack.get("rope_parameters") or {}
    full, local = (ropes.get(f"{kind}_attention") or {} for kind in ("full", "sliding"))
    kinds = (full.get("rope_type", "default"), local.get("rope_type", "default"))
    if kinds[0] not in ("default", "linear") or kinds[1] != "default":
        raise UserError(f"{path}: {name}.rope_parameters {dict(ropes)}: T5Gemma 2 has only default and linear")
    return {
        "rope_base": float(full.get("rope_theta", 1e6)),
        "rope_scaling": (float(full.get("factor", 1.0)),) if kinds[0] == "linear" else (),
        "local_rope_base": float(local.get("rope_theta", 1e4)),
    }


def read_config(path: pathlib.Path, config: Mapping[str, Any], stored: Collection[str]) -> T5Gemma2Config:
    """The model that `config.json` describes."""
    outer = config.get("encoder") or {}
    parts = {"encoder": outer.get("text_config") or {}, "decoder": config.get("decoder") or {}}
    stacks = {}
    for name, stack in parts.items():
        stacks[name] = gemma_names.read_stack(path, name, stack) | _ropes(path, name, stack)
    encoder, decoder = stacks["encoder"], stacks["decoder"]
    gemma_names.same(path, encoder, decoder)
    depths = {"num_encoder_layers": encoder.pop("depth"), "num_decoder_layers": decoder.pop("depth")}
    return T5Gemma2Config(
        **decoder,
        **depths,
        end_of_image_id=int(outer.get("eoi_token_index", 256_000)) if _END_OF_IMAGE in stored else 0,
        logits_via_embedding=config.get("tie_word_embeddings", True),
        dropout_rate=config.get("dropout_rate", 0.0),
    )


def write_config(config: T5Gemma2Config) -> dict[str, Any]:
    """`config.json`, with the smallest vision tower there can be, of which no weights are written."""
    full = {"rope_type": "default", "rope_theta": config.rope_base}
    if config.rope_scaling:
        full |= {"rope_type": "linear", "factor": config.rope_scaling[0]}
    local = {"rope_type": "default", "rope_theta": config.local_rope_base}
    ropes = {"rope_parameters": {"full_attention": full, "sliding_attention": local}}
    encoder = gemma_names.write_stack(config, config.num_encoder_layers) | ropes
    decoder = gemma_names.write_stack(config, config.num_decoder_layers) | ropes
    return {
        "architectures": ["T5Gemma2ForConditionalGeneration"],
        "model_type": "t5gemma2",
        "encoder": {
            "model_type": "t5gemma2_encoder",
            "text_config": encoder | {"model_type": "t5gemma2_text"},
            "vision_config": _VISION,
            "mm_tokens_per_image": 4,
            "eoi_token_index": config.end_of_image_id or 256_000,
        },
        "decoder": decoder | {"model_type": "t5gemma2_decoder"},
        "dropout_rate": config.dropout_rate,
        "tie_word_embeddings": config.logits_via_embedding,
        "is_encoder_decoder": True,
        "vocab_size": config.vocab_size,
        **gemma_names.SPECIAL_IDS,
    }
