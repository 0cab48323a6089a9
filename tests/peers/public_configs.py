"""`config.json` of the public checkpoints, by repository: what says something of the network.

The sizes are those of the sources that the heads of gin_configs/models/*/common.gin name; written out a
second time, not made from our model files, and not read from the hub.
"""

T5 = {"model_type": "t5", "layer_norm_epsilon": 1e-6, "relative_attention_num_buckets": 32, "dropout_rate": 0.1}
T5 |= {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0, "is_encoder_decoder": True}
T5 |= {"vocab_size": 32128, "d_kv": 64}
GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}


def _t5(d_model, d_ff, heads, layers, decoder_layers=None, **more):
    sizes = {"d_model": d_model, "d_ff": d_ff, "num_heads": heads, "num_layers": layers}
    return T5 | sizes | ({"num_decoder_layers": decoder_layers} if decoder_layers else {}) | more


T5_1_1 = {
    "small": (512, 1024, 6, 8, 8),
    "base": (768, 2048, 12, 12, 12),
    "large": (1024, 2816, 16, 24, 24),
    "xl": (2048, 5120, 32, 24, 24),
    "xxl": (4096, 10240, 64, 24, 24),
}
BYT5 = {
    "small": (1472, 3584, 6, 12, 4),
    "base": (1536, 3968, 12, 18, 6),
    "large": (1536, 3840, 16, 36, 12),
    "xl": (2560, 6720, 32, 36, 12),
    "xxl": (4672, 12352, 64, 36, 12),
}
PUBLIC = {
    "google-t5/t5-small": _t5(512, 2048, 8, 6),
    "google-t5/t5-base": _t5(768, 3072, 12, 12),
    "google-t5/t5-large": _t5(1024, 4096, 16, 24),
    "google-t5/t5-3b": _t5(1024, 16384, 32, 24, d_kv=128),
    "google-t5/t5-11b": _t5(1024, 65536, 128, 24, d_kv=128),
}
PUBLIC |= {f"google/t5-v1_1-{size}": _t5(*sizes, **GATED) for size, sizes in T5_1_1.items()}
PUBLIC |= {f"google/flan-t5-{size}": _t5(*sizes, **GATED) for size, sizes in T5_1_1.items()}
PUBLIC |= {f"google/byt5-{size}": _t5(*sizes, **GATED, vocab_size=384) for size, sizes in BYT5.items()}
UMT5 = {"model_type": "umt5", "scalable_attention": True, "vocab_size": 256384, **GATED}
PUBLIC |= {f"google/umt5-{size}": _t5(*T5_1_1[size], **UMT5) for size in ("small", "base", "xl", "xxl")}

GEMMA = {"hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-6, "attention_bias": False}
GEMMA |= {
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
    "dropout_rate": 0.0,
    "attention_dropout": 0.0,
}


def _gemma(layers, hidden, ff, heads, kv, head, every, **more):
    types = ["sliding_attention" if (n + 1) % every else "full_attention" for n in range(layers)]
    sizes = {"num_hidden_layers": layers, "hidden_size": hidden, "intermediate_size": ff}
    sizes |= {"num_attention_heads": heads, "num_key_value_heads": kv, "head_dim": head}
    return GEMMA | sizes | {"query_pre_attn_scalar": head, "layer_types": types} | more


GEMMA_2 = {
    "s": (8, 512, 1024, 8, 8, 64),
    "b": (12, 768, 2048, 12, 12, 64),
    "l": (24, 1024, 2816, 16, 16, 64),
    "ml": (26, 1152, 6912, 4, 4, 256),
    "xl": (24, 2048, 5120, 32, 32, 64),
    "2b": (26, 2304, 9216, 8, 4, 256),
    "9b": (42, 3584, 14336, 16, 8, 256),
}


def _t5gemma(encoder, decoder):
    more = {
        "model_type": "t5_gemma_module",
        "rope_theta": 10000.0,
        "sliding_window": 4096,
        "vocab_size": 256000,
    }
    more |= {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
    stacks = {
        name: _gemma(*GEMMA_2[size], 2, **more) for name, size in (("encoder", encoder), ("decoder", decoder))
    }
    return {"model_type": "t5gemma", "vocab_size": 256000, "is_encoder_decoder": True, **stacks}


PUBLIC |= {
    f"google/t5gemma-{encoder}-{decoder}-prefixlm": _t5gemma(encoder, decoder)
    for encoder, decoder in [*((size, size) for size in GEMMA_2), ("9b", "2b")]
}
GEMMA_3 = {
    "270m-270m": (18, 640, 2048, 4, 1, 256, 6),
    "1b-1b": (26, 1152, 6912, 4, 1, 256, 6),
    "4b-4b": (34, 2560, 10240, 8, 4, 256, 6),
}


def _t5gemma2(size):
    full = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0}
    ropes = {"full_attention": full, "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}
    window = 1024 if size == "4b-4b" else 512
    stack = _gemma(*GEMMA_3[size], rope_parameters=ropes, sliding_window=window, vocab_size=262144)
    vision = {"model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304}
    vision |= {"num_attention_heads": 16, "num_hidden_layers": 27, "image_size": 896, "patch_size": 14}
    encoder = {
        "model_type": "t5gemma2_encoder",
        "text_config": stack | {"model_type": "t5gemma2_text"},
        "vision_config": vision,
        "eoi_token_index": 256000,
    }
    top = {
        "model_type": "t5gemma2",
        "vocab_size": 262144,
        "eoi_token_index": 256000,
        "is_encoder_decoder": True,
    }
    return top | {"encoder": encoder, "decoder": stack | {"model_type": "t5gemma2_decoder"}}


PUBLIC |= {f"google/t5gemma-2-{size}": _t5gemma2(size) for size in GEMMA_3}


def _llama(layers, hidden, ff, heads, kv, **more):
    sizes = {"num_hidden_layers": layers, "hidden_size": hidden, "intermediate_size": ff}
    sizes |= {"num_attention_heads": heads, "num_key_value_heads": kv}
    common = {"model_type": "llama", "hidden_act": "silu", "attention_bias": False, "tie_word_embeddings": True}
    return common | sizes | {"rms_norm_eps": 1e-5, "mlp_bias": False, "rope_scaling": None} | more


LLAMA_3 = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA_3 |= {"original_max_position_embeddings": 8192}
LLAMA = {"vocab_size": 128256, "rope_theta": 500000.0, "rope_scaling": LLAMA_3}
SMOL = {"vocab_size": 49152, "rope_theta": 100000}
QWEN = {
    "model_type": "qwen3",
    "vocab_size": 151936,
    "rope_theta": 1000000,
    "rms_norm_eps": 1e-6,
    "head_dim": 128,
}
PUBLIC |= {
    "HuggingFaceTB/SmolLM2-135M-Instruct": _llama(30, 576, 1536, 9, 3, **SMOL),
    "HuggingFaceTB/SmolLM2-360M-Instruct": _llama(32, 960, 2560, 15, 5, **SMOL),
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": _llama(24, 2048, 8192, 32, 32, **SMOL | {"rope_theta": 130000}),
    "meta-llama/Llama-3.2-1B": _llama(16, 2048, 8192, 32, 8, head_dim=64, **LLAMA),
    "meta-llama/Llama-3.2-3B": _llama(28, 3072, 8192, 24, 8, head_dim=128, **LLAMA),
    "Qwen/Qwen3-0.6B-Base": _llama(28, 1024, 3072, 16, 8, **QWEN),
    "Qwen/Qwen3-1.7B-Base": _llama(28, 2048, 6144, 16, 8, **QWEN),
    "Qwen/Qwen3-4B-Base": _llama(36, 2560, 9728, 32, 8, **QWEN),
}
