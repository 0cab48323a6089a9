"""Operations that a training step cannot do without: what model FLOPs utilisation (MFU) counts."""

from collections.abc import Iterable

from distill_jax.models.config import ModelConfig


def forward_flops(config: ModelConfig, inputs: int, targets: int) -> float:
    """Multiplications and additions of one forward pass on one example, without padding.

    Matrix products alone; the embedding is a look-up. It is also what decoding with a cache has to do.

    Args:
      config: of the student, an encoder-decoder whose attention sees all tokens.
      inputs: tokens that the encoder reads.
      targets: tokens that the decoder writes.
    """
    reader = getattr(config, "encoder_stack", config)
    encoder = _attention(reader, inputs, inputs, reader.emb_dim) + _feed_forward(reader, inputs)
    own = _attention(config, targets, targets, config.emb_dim) + _feed_forward(config, targets)
    cross = _attention(config, targets, inputs, reader.emb_dim)
    logits = 2 * targets * config.emb_dim * config.vocab_size
    return config.num_encoder_layers * encoder + config.num_decoder_layers * (own + cross) + logits


def _attention(config: ModelConfig, asking: int, asked: int, width: int) -> float:
    """Projections of the tokens that ask and of those asked, which have this width, and the two products."""
    heads = config.num_heads * config.head_dim
    shared = getattr(config, "kv_heads", config.num_heads) * config.head_dim
    return 4 * asking * config.emb_dim * heads + 4 * asked * width * shared + 4 * asking * asked * heads


def _feed_forward(config: ModelConfig, tokens: int) -> float:
    return 2 * tokens * config.emb_dim * config.mlp_dim * (len(config.mlp_activations) + 1)


def example_flops(config: ModelConfig, inputs: int, targets: int) -> float:
    """Multiplications and additions of one update on one example: forward, and twice that backward.

    So PaLM's authors count (Chowdhery et al. 2022, appendix B); recomputation does not count.
    """
    return 3.0 * forward_flops(config, inputs, targets)


def mean_pair_flops(config: ModelConfig, pairs: Iterable) -> float:
    """The same of a pair, (label example, rationale example), each (inputs, targets): the mean of all pairs."""
    counts = [sum(example_flops(config, *map(len, example)) for example in pair) for pair in pairs]
    return sum(counts) / len(counts)
