"""The shape of the T5 that the tests of runs train: the vocabulary decides its number of ids."""

from distill_jax.models.config import T5Config

TINY = T5Config(
    vocab_size=None,
    emb_dim=16,
    num_heads=2,
    num_encoder_layers=1,
    num_decoder_layers=1,
    head_dim=8,
    mlp_dim=32,
    dropout_rate=0.0,
)
