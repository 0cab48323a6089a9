"""Hyperparameters of a student: what all families share, and T5's own, with T5X's field names."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from distill_jax.errors import UserError

ACTIVATIONS = ("linear", "relu", "gelu", "silu", "swish")
DTYPES = ("bfloat16", "float32")
REMAT_POLICIES = ("none", "full", "dots")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Shape of a student of any family: what training, decoding, planning and partitioning read of it.

    A family adds its own fields, and overrides the properties where it differs.

    Attributes:
      family: of `models.families`.
      pad_id: fills up inputs that come without segments, in decoding.
      vocab_size: rows of the embedding; None takes the vocabulary's size, rounded up.
      dtype: of activations and matmuls; parameters are always float32.
      emb_dim: width of the decoder's residual stream.
      logits_via_embedding: whether the output projection is the embedding.
      scan_layers: one set of stacked parameters under `layers`, compiled once whatever the depth.
      scan_unroll: layers in one iteration of the scan; more compile longer, but XLA may fuse across them.
      remat: what the backward pass recomputes: "none", "full" (each layer) or "dots" (all of a layer but its
        matmuls).

    Raises:
      UserError: for a value that is unknown or out of range.
    """

    family: ClassVar[str]
    pad_id: ClassVar[int] = 0

    vocab_size: int | None
    dtype: str = "float32"
    emb_dim: int = 512
    num_heads: int = 8
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    head_dim: int = 64
    mlp_dim: int = 2048
    dropout_rate: float = 0.1
    logits_via_embedding: bool = False
    scan_layers: bool = False
    scan_unroll: int = 1
    remat: str = "none"

    def __post_init__(self):
        if self.remat not in REMAT_POLICIES:
            raise UserError(f"remat: {self.remat!r} is none of {', '.join(REMAT_POLICIES)}")
        if self.scan_unroll < 1:
            raise UserError(f"scan_unroll: expected 1 or more, got {self.scan_unroll}")
        if self.dtype not in DTYPES:
            why = ", which its activations overflow" if self.dtype == "float16" else ""
            raise UserError(f"dtype: {self.dtype!r}{why}: use {' or '.join(DTYPES)}")
        if not 0.0 <= self.dropout_rate < 1.0:
            raise UserError(f"dropout_rate must lie in [0, 1), got {self.dropout_rate}")

    @property
    def encoded_dim(self) -> int:
        """Width of what `encode` returns."""
        return self.emb_dim

    @property
    def logits_scale(self) -> float:
        """Factor of the decoder's states before the output projection."""
        return 1.0

    @property
    def logits_cap(self) -> float:
        """Bound of the logits, `cap * tanh(logits / cap)`; 0 for none."""
        return 0.0

    def sharded_sizes(self) -> dict[str, list[tuple[str, int | None]]]:
        """Logical axis: (option, size) of each array that has it; a mesh has to divide all of them."""
        return {
            "embed": [("emb_dim", self.emb_dim)],
            "heads": [("num_heads", self.num_heads)],
            "joined_kv": [("num_heads", self.num_heads)],
            "mlp": [("mlp_dim", self.mlp_dim)],
            "vocab": [("vocab_size", self.vocab_size)],
        }

    def matrix_parameters(self) -> int:
        """The number of parameters in matrices, which are nearly all of them."""
        raise NotImplementedError

    def embedding_parameters(self) -> int:
        """The number of parameters of the embedding and the output projection."""
        return (1 if self.logits_via_embedding else 2) * self.vocab_size * self.emb_dim


@dataclasses.dataclass(frozen=True)
class T5Config(ModelConfig):
    """Shape of a T5: the fields of `t5x.examples.t5.network.T5Config`, `scan_unroll` and `remat`.

    T5 1.0 is `mlp_activations=("relu",), logits_via_embedding=True`; T5 1.1 is
    `("gelu", "linear")` and False.
    """

    family = "t5"

    mlp_activations: Sequence[str] = ("relu",)
    float32_attention_logits: bool = False

    def __post_init__(self):
        object.__setattr__(self, "mlp_activations", tuple(self.mlp_activations))
        unknown = [name for name in self.mlp_activations if name not in ACTIVATIONS]
        if unknown:
            raise UserError(f"mlp_activations: {unknown[0]!r} is none of {', '.join(ACTIVATIONS)}")
        super().__post_init__()

    @property
    def logits_scale(self) -> float:
        """Tied logits are scaled, as the embedding has unit variance."""
        return self.emb_dim**-0.5 if self.logits_via_embedding else 1.0

    def matrix_parameters(self) -> int:
        """The number of parameters in matrices, which are nearly all of them."""
        attention = 4 * self.emb_dim * self.num_heads * self.head_dim
        mlp = (1 + len(self.mlp_activations)) * self.emb_dim * self.mlp_dim
        encoder = self.num_encoder_layers * (attention + mlp)
        return encoder + self.num_decoder_layers * (2 * attention + mlp) + self.embedding_parameters()
