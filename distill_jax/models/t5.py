"""The student: T5 1.0 and 1.1 with T5X's parameter tree, logical axes and call signature.

It serves our engine and, unchanged, as the `module` of `t5x.models.EncoderDecoderModel`. Raffel et al.
2020 (arXiv:1910.10683); the structure is that of `t5x/examples/t5/network.py`.
"""

from distill_jax.models.config import T5Config
from distill_jax.models.encoder_decoder import EncoderDecoder
from distill_jax.models.layers import Embed
from distill_jax.models.stacks import Decoder, Encoder


class Transformer(EncoderDecoder):
    """An encoder-decoder T5; it sees only differences of positions, which packing does not change."""

    config: T5Config

    def setup(self):
        cfg = self.config
        self.token_embedder = Embed(cfg.vocab_size, cfg.emb_dim, cfg.dtype)
        self.encoder = Encoder(cfg, self.token_embedder)
        self.decoder = Decoder(cfg, self.token_embedder)
