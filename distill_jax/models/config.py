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
