"""Hyperparameters of the student, with T5X's field names."""

import dataclasses
from collections.abc import Sequence

from distill_jax.errors import UserError

ACTIVATIONS = ("linear", "relu", "gelu", "silu", "swish")
DTYPES = ("bfloat16", "float32")
REMAT_POLICIES = ("none", "full", "dots")


@dataclasses.dataclass(frozen=True)
class T5Config:
    """Shape of a T5: the fields of `t5x.examples.t5.network.T5Config`, `scan_unroll` and `remat`.

    T5 1.0 is `mlp_activations=("relu",), logits_via_embedding=True`; T5 1.1 is
    `("gelu", "linear")` and False.

    Attributes:
      vocab_size: rows of the embedding; None takes the vocabulary's size, rounded up.
      dtype: of activations and matmuls; parameters are always float32.
      scan_layers: one set of stacked parameters under `layers`, compiled once whatever the depth.
      scan_unroll: layers in one iteration of the scan; more compile longer, but XLA may fuse across them.
      remat: what the backward pass recomputes: "none", "full" (each layer) or "dots" (all of a layer but its
        matmuls).

    Raises:
      UserError: for a value that is unknown or out of range.
    """

    vocab_size: int | None
    dtype: str = "float32"
    emb_dim: int = 512
    num_heads: int = 8
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    head_dim: int = 64
    mlp_dim: int = 2048
    mlp_activations: Sequence[str] = ("relu",)
    dropout_rate: float = 0.1
    logits_via_embedding: bool = False
    float32_attention_logits: bool = False
    scan_layers: bool = False
    scan_unroll: int = 1
    remat: str = "none"

    pad_id = 0

    def __post_init__(self):
        object.__setattr__(self, "mlp_activations", tuple(self.mlp_activations))
        unknown = [name for name in self.mlp_activations if name not in ACTIVATIONS]
        if unknown:
            raise UserError(f"mlp_activations: {unknown[0]!r} is none of {', '.join(ACTIVATIONS)}")
        if self.remat not in REMAT_POLICIES:
            raise UserError(f"remat: {self.remat!r} is none of {', '.join(REMAT_POLICIES)}")
        if self.scan_unroll < 1:
            raise UserError(f"scan_unroll: expected 1 or more, got {self.scan_unroll}")
        if self.dtype not in DTYPES:
            why = ", which T5's activations overflow" if self.dtype == "float16" else ""
            raise UserError(f"dtype: {self.dtype!r}{why}: use {' or '.join(DTYPES)}")
        if not 0.0 <= self.dropout_rate < 1.0:
            raise UserError(f"dropout_rate must lie in [0, 1), got {self.dropout_rate}")


@dataclasses.dataclass(frozen=True)
class LlamaConfig:
    """Shape of a decoder-only student; fields without a word here are those of `T5Config`.

    Attributes:
      num_kv_heads: heads of keys and values, each shared by `num_heads / num_kv_heads` of the queries.
      logits_via_embedding: the logits' kernel is the embedding, unscaled.
      norm_epsilon: of all norms.
      qk_norm: norms queries and keys, head by head (Qwen 3).
      rope_theta: base of the rotary positions' wavelengths.
      rope_scaling: (factor,) divides all positions; (factor, low, high, length) is Llama 3.1's: wavelengths
        above `length / low` are multiplied by the factor, those below `length / high` are not, with a smooth
        passage between them.

    Raises:
      UserError: for a value that is unknown or out of range.
    """

    vocab_size: int | None
    dtype: str = "float32"
    emb_dim: int = 576
    num_heads: int = 9
    num_kv_heads: int = 3
    num_layers: int = 30
    head_dim: int = 64
    mlp_dim: int = 1536
    dropout_rate: float = 0.0
    logits_via_embedding: bool = True
    norm_epsilon: float = 1e-5
    qk_norm: bool = False
    rope_theta: float = 10_000.0
    rope_scaling: Sequence[float] = ()
    scan_layers: bool = False
    scan_unroll: int = 1
    remat: str = "none"

    mlp_activations = ("silu", "linear")
    pad_id = -1

    def __post_init__(self):
        object.__setattr__(self, "rope_scaling", tuple(self.rope_scaling))
        if self.num_heads % self.num_kv_heads:
            raise UserError(f"num_kv_heads {self.num_kv_heads} does not divide num_heads {self.num_heads}")
        if self.head_dim % 2:
            raise UserError(f"head_dim must be even for rotary positions, got {self.head_dim}")
        if len(self.rope_scaling) not in (0, 1, 4):
            raise UserError(f"rope_scaling: expected 1 number (linear) or 4 (Llama 3), got {self.rope_scaling}")
        if self.remat not in REMAT_POLICIES:
            raise UserError(f"remat: {self.remat!r} is none of {', '.join(REMAT_POLICIES)}")
        if self.scan_unroll < 1:
            raise UserError(f"scan_unroll: expected 1 or more, got {self.scan_unroll}")
        if self.dtype not in DTYPES:
            raise UserError(f"dtype: {self.dtype!r}: use {' or '.join(DTYPES)}")
        if not 0.0 <= self.dropout_rate < 1.0:
            raise UserError(f"dropout_rate must lie in [0, 1), got {self.dropout_rate}")
