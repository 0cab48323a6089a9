"""Tiny models of transformers with random weights, one of each family beside T5."""

import functools

import numpy as np
import pytest

from distill_jax.checkpoints.other_formats.huggingface import read_huggingface

torch = pytest.importorskip("torch", reason="for parity tests only")
transformers = pytest.importorskip("transformers", reason="for parity tests only")

VOCAB = 48
END_OF_IMAGE = 7
START = {"t5gemma": 2, "unbalanced": 2, "t5gemma2": 2, "umt5": 0}  # the decoder's first token
KINDS = tuple(START)
GEMMA = ("t5gemma", "unbalanced", "t5gemma2")


def _stack(**changes):
    """Every kind of layer, a window shorter than the texts, and caps that bite."""
    return {
        "vocab_size": VOCAB,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "query_pre_attn_scalar": 12,
        "sliding_window": 5,
        "max_position_embeddings": 128,
        **changes,
    }


def _t5gemma(**encoder):
    caps = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0, "rope_theta": 100.0}
    return transformers.T5GemmaConfig(
        encoder=_stack(**caps | encoder), decoder=_stack(**caps), vocab_size=VOCAB, decoder_start_token_id=2
    )


def _t5gemma2():
    ropes = {
        "full_attention": {"rope_type": "linear", "factor": 3.0, "rope_theta": 50.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 20.0},
    }
    fields = {
        "num_hidden_layers": 4,
        "num_key_value_heads": 1,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
        "rope_parameters": ropes,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_attention_heads": 1,
        "num_hidden_layers": 1,
        "image_size": 56,
        "patch_size": 14,
    }
    encoder = {
        "text_config": _stack(**fields),
        "vision_config": vision,
        "mm_tokens_per_image": 4,
        "eoi_token_index": END_OF_IMAGE,
    }
    return transformers.T5Gemma2Config(
        encoder=encoder, decoder=_stack(**fields), image_token_index=8, decoder_start_token_id=2
    )


def _umt5():
    return transformers.UMT5Config(
        vocab_size=VOCAB,
        d_model=16,
        d_kv=12,
        d_ff=24,
        num_heads=2,
        num_layers=3,
        num_decoder_layers=2,
        dropout_rate=0.0,
    )


def make_peer(kind):
    """A model of transformers."""
    torch.manual_seed(0)
    if kind == "t5gemma2":
        model = transformers.T5Gemma2ForConditionalGeneration(_t5gemma2())
    elif kind == "umt5":
        model = transformers.UMT5ForConditionalGeneration(_umt5())
    else:
        larger = {
            "hidden_size": 24,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "intermediate_size": 20,
            "num_hidden_layers": 4,
        }
        config = _t5gemma(**(larger if kind == "unbalanced" else {}))
        model = transformers.T5GemmaForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model.eval()


@functools.cache
def saved_peer(kind, folder):
    """(model of transformers, our parameters, our config), by way of `folder`."""
    model = make_peer(kind)
    model.save_pretrained(folder)
    return model, *read_huggingface(folder)


def texts(rows=3, inputs=24, targets=27, seed=0):
    """int32 [rows, inputs] with padding, and [rows, targets]."""
    rng = np.random.default_rng(seed)
    sources, outputs = rng.integers(4, VOCAB, (rows, inputs)), rng.integers(4, VOCAB, (rows, targets))
    sources[1, inputs * 2 // 3 :] = 0
    sources[0, 3] = outputs[0, 4] = END_OF_IMAGE
    return sources.astype(np.int32), outputs.astype(np.int32)
