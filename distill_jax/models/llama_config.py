"""Hyperparameters of a decoder-only student of the Llama kind."""

import dataclasses
from collections.abc import Sequence

from distill_jax.errors import UserError
from distill_jax.models.config import ModelConfig


@dataclasses.dataclass(frozen=True)
class LlamaConfig(ModelConfig):
    """Shape of a decoder-only student; fields without a word here are those of `ModelConfig`.

    Attributes:
      num_kv_heads: heads of keys and values, each shared by `num_heads / num_kv_heads` of the queries.
      logits_via_embedding: the logits' kernel is the embedding, unscaled.
      norm_epsilon: of all norms.
      qk_norm: norms queries and keys, head by head (Qwen 3).
      rope_base: base of the rotary positions' wavelengths.
      rope_scaling: (factor,) divides all positions; (factor, low, high, length) is Llama 3.1's: wavelengths
        above `length / low` are multiplied by the factor, those below `length / high` are not, with a smooth
        passage between them.

    Raises:
      UserError: for a value that is unknown or out of range.
    """

    family = "llama"
    mlp_activations = ("silu", "linear")
    pad_id = -1  # 0 is a token of most vocabularies

    emb_dim: int = 576
    num_heads: int = 9
    num_kv_heads: int = 3
    num_encoder_layers: int = 0
    num_decoder_layers: int = 30
    mlp_dim: int = 1536
    dropout_rate: float = 0.0
    logits_via_embedding: bool = True
    norm_epsilon: float = 1e-5
    qk_norm: bool = False
    rope_base: float = 10_000.0
    rope_scaling: Sequence[float] = ()

    def __post_init__(self):
        object.__setattr__(self, "rope_scaling", tuple(self.rope_scaling))
        if self.num_encoder_layers:
            raise UserError(
                f"num_encoder_layers: a decoder-only student has none, got {self.num_encoder_layers}"
            )
        if self.num_heads % self.num_kv_heads:
            raise UserError(f"num_kv_heads {self.num_kv_heads} does not divide num_heads {self.num_heads}")
        if self.head_dim % 2:
            raise UserError(f"head_dim must be even for rotary positions, got {self.head_dim}")
        if len(self.rope_scaling) not in (0, 1, 4):
            raise UserError(f"rope_scaling: expected 1 number (linear) or 4 (Llama 3), got {self.rope_scaling}")
        super().__post_init__()

    def sharded_sizes(self) -> dict[str, list[tuple[str, int | None]]]:
        """A mesh has to divide the heads of keys too."""
        sizes = super().sharded_sizes()
        for axis in ("heads", "joined_kv"):
            sizes[axis] = [*sizes[axis], ("num_kv_heads", self.num_kv_heads)]
        return sizes

    def matrix_parameters(self) -> int:
        """The number of parameters in matrices, which are nearly all of them."""
        attention = 2 * self.emb_dim * (self.num_heads + self.num_kv_heads) * self.head_dim
        layer = attention + 3 * self.emb_dim * self.mlp_dim
        return self.num_decoder_layers * layer + self.embedding_parameters()
