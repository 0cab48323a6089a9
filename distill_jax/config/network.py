"""Options of the network: those of all families of students, and those that only some have."""

from typing import Any

from distill_jax.config.options import Options, option

MOST_LAYERS = 1000
# What a run may choose for any checkpoint.
OF_A_RUN = {"dtype", "dropout_rate", "float32_attention_logits", "scan_layers", "scan_unroll", "remat"}


class ModelOptions(Options):
    """The network; the defaults are T5 1.1 small's, see --model"""

    model_family: str = option("t5", "the architecture", choices=("t5", "umt5", "t5gemma", "t5gemma2", "llama"))
    vocab_size: int | None = option(32128, "embedding rows; None takes the vocabulary's, rounded up", minimum=1)
    dtype: str = option(
        "float32",
        "of activations and matrix products; parameters are float32 (T5 overflows float16)",
        choices=("float32", "bfloat16"),
    )
    emb_dim: int = option(512, "width of the residual stream", minimum=1)
    num_heads: int = option(6, "attention heads", minimum=1)
    num_kv_heads: int | None = option(
        None, "heads of keys and values, where queries share them; default the family's", minimum=1
    )
    num_encoder_layers: int = option(
        8, "encoder layers; 0 of a decoder-only student", minimum=0, maximum=MOST_LAYERS
    )
    num_decoder_layers: int = option(8, "decoder layers", minimum=1, maximum=MOST_LAYERS)
    head_dim: int = option(64, "width of a head", minimum=1)
    mlp_dim: int = option(1024, "width of the feed-forward layers", minimum=1)
    mlp_activations: tuple[str, ...] = option(
        ("gelu", "linear"), "of the feed-forward layers", choices=("linear", "relu", "gelu", "silu", "swish")
    )
    dropout_rate: float = option(0.1, "dropout", minimum=0, below=1)
    logits_via_embedding: bool = option(False, "logits from the embedding (T5 1.0)")
    norm_epsilon: float | None = option(None, "of the norms; default the family's", above=0)
    qk_norm: bool = option(False, "norms of queries and keys (Qwen 3)")
    rope_base: float | None = option(None, "base of the rotary positions; default the family's", above=0)
    rope_scaling: tuple[float, ...] = option(
        (), "of rotary positions: a factor; or factor,low,high,length (Llama 3)"
    )
    float32_attention_logits: bool = option(False, "attention logits in float32 whatever --dtype")
    scan_layers: bool = option(False, "layers stacked and compiled once")
    scan_unroll: int = option(1, "layers in a turn of the scan", minimum=1)
    remat: str = option(
        "none",
        "what the backward pass computes again: each layer, or each but its matrix products",
        choices=("none", "full", "dots"),
    )
    # Of some families only; None is the family's own.
    sliding_window: int | None = option(None, "tokens that a local layer sees", minimum=1)
    full_attention_every: int | None = option(None, "of so many layers one sees all tokens", minimum=1)
    local_rope_base: float | None = option(None, "of rotary positions, in local layers", above=0)
    end_of_image_id: int | None = option(None, "token with an embedding that is not scaled; 0: none", minimum=0)
    query_scalar: float | None = option(None, "attention is scaled by its root; default head_dim", above=0)
    attention_logit_cap: float | None = option(None, "soft cap of attention logits; 0 for none", minimum=0)
    final_logit_cap: float | None = option(None, "soft cap of the output's logits; 0 for none", minimum=0)
    encoder_emb_dim: int | None = option(None, "the encoder's, where it differs from emb_dim", minimum=1)
    encoder_num_heads: int | None = option(None, "the encoder's, where it differs", minimum=1)
    encoder_num_kv_heads: int | None = option(None, "the encoder's, where it differs", minimum=1)
    encoder_mlp_dim: int | None = option(None, "the encoder's, where it differs", minimum=1)

    @property
    def architecture(self) -> dict[str, Any]:
        """The options that decide what parameters there are and what they compute: those of a checkpoint."""
        return {name: value for name, value in self.shape.items() if name not in OF_A_RUN}

    @property
    def shape(self) -> dict[str, Any]:
        """Arguments of `models.families.make_config`."""
        return {name: getattr(self, name) for name in ModelOptions.options()}
