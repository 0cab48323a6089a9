"""UMT5: T5 1.1 with a position bias in each layer (Chung et al. 2023, arXiv:2304.09151)."""

import dataclasses

import jax
from flax import linen as nn

from distill_jax.models import stacks
from distill_jax.models.config import T5Config
from distill_jax.models.encoder_decoder import EncoderDecoder
from distill_jax.models.layers import Embed, RelativePositionBias
from distill_jax.models.stacks import Distances, position_bias

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class UMT5Config(T5Config):
    """Shape of a UMT5."""

    family = "umt5"


class EncoderLayer(stacks.EncoderLayer):
    """T5's layer with its own position bias."""

    @nn.compact
    def __call__(self, x: Array, seen: Distances) -> tuple[Array, None]:
        """[batch, length, embed] -> the same shape; None is for `nn.scan`."""
        relative = RelativePositionBias(self.config.num_heads, True, name="relpos_bias")
        return super().__call__(x, position_bias(relative, seen))


class DecoderLayer(stacks.DecoderLayer):
    """T5's layer with its own position bias."""

    @nn.compact
    def __call__(
        self, x: Array, encoded: Array, seen: Distances, cross_bias: Array, cache_index: Array | None
    ) -> tuple[Array, None]:
        """[batch, length, embed] -> the same shape; None is for `nn.scan`."""
        relative = RelativePositionBias(self.config.num_heads, False, name="relpos_bias")
        return super().__call__(x, encoded, position_bias(relative, seen), cross_bias, cache_index)


class UMT5(EncoderDecoder):
    """An encoder-decoder UMT5."""

    config: UMT5Config

    def setup(self):
        cfg = self.config
        self.token_embedder = Embed(cfg.vocab_size, cfg.emb_dim, cfg.dtype)
        self.encoder = stacks.Encoder(cfg, self.token_embedder, EncoderLayer, shares_bias=False)
        self.decoder = stacks.Decoder(cfg, self.token_embedder, DecoderLayer, shares_bias=False)
