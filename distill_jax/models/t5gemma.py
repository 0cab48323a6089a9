"""T5Gemma: an encoder and a decoder of Gemma 2's layers, each with its own embedding, maybe of different sizes.

Zhang et al. 2025 (arXiv:2504.06225). A local layer of the encoder sees `sliding_window` tokens to each
side, as in transformers; in `google-deepmind/gemma` it is one less.
"""

import dataclasses

import jax
from flax import linen as nn

from distill_jax.models.encoder_decoder import EncoderDecoder
from distill_jax.models.gemma import Attention, GemmaConfig, View, choose, make_embed, sublayer
from distill_jax.models.gemma_stacks import Decoder, Encoder
from distill_jax.models.layers import MlpBlock

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class T5GemmaConfig(GemmaConfig):
    """Shape of a T5Gemma; the sizes are the decoder's, and those of an encoder that is left open (None)."""

    family = "t5gemma"

    attention_logit_cap: float = 50.0
    final_logit_cap: float = 30.0
    encoder_emb_dim: int | None = None
    encoder_num_heads: int | None = None
    encoder_num_kv_heads: int | None = None
    encoder_mlp_dim: int | None = None

    @property
    def encoded_dim(self) -> int:
        """Width of what `encode` returns."""
        return self.encoder_stack.emb_dim

    @property
    def encoder_stack(self) -> "T5GemmaConfig":
        """This config with the sizes of the encoder in the place of the decoder's."""
        names = ("emb_dim", "num_heads", "num_kv_heads", "mlp_dim")
        own = {name: getattr(self, f"encoder_{name}") for name in names}
        given = {name: size for name, size in own.items() if size is not None}
        opened = {f"encoder_{name}": None for name in names}
        return dataclasses.replace(self, **given, **opened) if given else self

    def sharded_sizes(self) -> dict[str, list[tuple[str, int | None]]]:
        """Logical axis: (option, size) of each array that has it; a mesh has to divide all of them."""
        sizes, encoder = super().sharded_sizes(), self.encoder_stack
        if encoder is not self:
            for axis, own in encoder.sharded_sizes().items():
                sizes[axis] = sizes.get(axis, []) + [(f"encoder_{name}", size) for name, size in own]
        return sizes

    def matrix_parameters(self) -> int:
        """The number of parameters in matrices, which are nearly all of them."""
        encoder = self.encoder_stack
        mlp, encoder_mlp = (3 * stack.emb_dim * stack.mlp_dim for stack in (self, encoder))
        attention = self.attention_parameters(self.emb_dim) + self.attention_parameters(encoder.emb_dim)
        layers = self.num_decoder_layers * (attention + mlp)
        layers += self.num_encoder_layers * (encoder.attention_parameters(encoder.emb_dim) + encoder_mlp)
        return layers + self.embedding_parameters() + self.vocab_size * encoder.emb_dim


class DecoderLayer(nn.Module):
    """Self-attention, attention to the encoder's output, feed-forward."""

    config: T5GemmaConfig
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
        own = choose(full, if_full, if_local)
        attention = Attention(cfg, name="self_attention")
        x = sublayer("self_attention_norm", *rest, x, lambda y: attention(y, own, None, cache_index))
        cross = Attention(cfg, name="encoder_decoder_attention")
        source = (encoded, cross_mask)
        x = sublayer("cross_attention_norm", *rest, x, lambda y: cross(y, None, source, cache_index))
        return sublayer("mlp_norm", *rest, x, MlpBlock(*rest, name="mlp")), None


class T5Gemma(EncoderDecoder):
    """An encoder-decoder T5Gemma; positions restart at each segment of a packed row."""

    config: T5GemmaConfig

    def setup(self):
        cfg = self.config
        self.token_embedder = make_embed(cfg)
        self.encoder = Encoder(cfg.encoder_stack)
        self.decoder = Decoder(cfg, self.token_embedder, DecoderLayer)
