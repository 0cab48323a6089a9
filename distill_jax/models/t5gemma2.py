"""T5Gemma 2, text only: Gemma 3's layers, one embedding, one attention in a decoder's layer.

That attention is to the text itself and to the encoder's output (arXiv:2512.14856). Queries and keys are
normed; local and full layers have rotary positions of different bases.
"""

import dataclasses
from collections.abc import Sequence

import jax
from flax import linen as nn

from distill_jax.errors import UserError
from distill_jax.models.encoder_decoder import EncoderDecoder
from distill_jax.models.gemma import (
    Attention,
    EncoderLayer,
    GemmaConfig,
    View,
    choose,
    make_embed,
    sublayer,
)
from distill_jax.models.gemma_stacks import Decoder, Encoder
from distill_jax.models.layers import MlpBlock
from distill_jax.models.rotary import Rotation, rotation, wavelengths

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class T5Gemma2Config(GemmaConfig):
    """Shape of a T5Gemma 2.

    Attributes:
      local_rope_base: of the rotary positions of local layers.
      rope_scaling: () or one factor, which positions are divided by in layers that see all tokens.
      end_of_image_id: the token whose embedding is a row of its own, which is not scaled; 0 for none.
    """

    family = "t5gemma2"

    sliding_window: int = 512
    full_attention_every: int = 6
    rope_base: float = 1_000_000.0
    local_rope_base: float = 10_000.0
    rope_scaling: Sequence[float] = (8.0,)
    end_of_image_id: int = 256_000

    def __post_init__(self):
        object.__setattr__(self, "rope_scaling", tuple(self.rope_scaling))
        if len(self.rope_scaling) > 1 or 0.0 in self.rope_scaling:
            raise UserError(f"rope_scaling: T5Gemma 2 has one factor or none, got {self.rope_scaling}")
        super().__post_init__()

    def rotations(self, positions: Array) -> tuple[Rotation, Rotation]:
        """The rotary positions of full and of local layers, of int32 [batch or 1, length]."""
        full = wavelengths(self.head_dim, self.rope_base, *self.rope_scaling)
        local = wavelengths(self.head_dim, self.local_rope_base)
        return rotation(positions, full), rotation(positions, local)

    def encoder_window(self, distance: Array) -> Array:
        """Whether a local layer of the encoder sees a token: bool, of int32 query minus key position."""
        return (distance < (self.sliding_window + 1) // 2) & (-distance <= self.sliding_window // 2)

    def matrix_parameters(self) -> int:
        """The number of parameters in matrices, which are nearly all of them."""
        layer = self.attention_parameters(self.emb_dim) + 3 * self.emb_dim * self.mlp_dim
        return (self.num_encoder_layers + self.num_decoder_layers) * layer + self.embedding_parameters()


class NormedEncoderLayer(EncoderLayer):
    """The encoder's layer with normed queries and keys."""

    qk_norm: bool = True


class DecoderLayer(nn.Module):
    """Attention to the text itself and to the encoder's output in one softmax, and feed-forward."""

    config: T5Gemma2Config
    deterministic: bool

    @nn.compact
    def __call__(
        self,
        x: Array,
        full: Array,
        if_full: View,
        if_local: View,
        encoded: Array,
        cross_mask: Array,
        cache_index: Array | None,
    ) -> tuple[Array, None]:
        """[batch, length, embed] -> the same shape; None is for `nn.scan`."""
        cfg, rest = self.config, (self.config, self.deterministic)
        own, cross = choose(full, if_full, if_local), (encoded, cross_mask)
        attention = Attention(cfg, qk_norm=True, name="self_attention")
        x = sublayer("self_attention_norm", *rest, x, lambda y: attention(y, own, cross, cache_index))
        return sublayer("mlp_norm", *rest, x, MlpBlock(*rest, name="mlp")), None


class T5Gemma2(EncoderDecoder):
    """An encoder-decoder T5Gemma 2; positions restart at each segment of a packed row."""

    config: T5Gemma2Config

    def setup(self):
        cfg = self.config
        self.token_embedder = make_embed(cfg, end_of_image_id=cfg.end_of_image_id)
        self.encoder = Encoder(cfg, self.token_embedder, NormedEncoderLayer)
        self.decoder = Decoder(cfg, self.token_embedder, DecoderLayer)
