"""Operations that a training step cannot do without: what model FLOPs utilisation (MFU) counts."""

from collections.abc import Iterable

from distill_jax.models.config import T5Config


def forward_flops(config: T5Config, inputs: int, targets: int) -> float:
    """Multiplications and additions of one forward pass on one example, without padding.

    Matrix products alone; the embedding is a look-up. It is also what decoding with a cache has to do.

    Args:
      config: of the student.
      inputs: tokens that the encoder reads.
      targets: tokens that the decoder writes.
    """
    width = config.emb_dim
    heads = config.num_heads * config.head_dim
    projection = 2 * width * heads
    feed_forward = 2 * width * config.mlp_dim * (len(config.mlp_activations) + 1)
    encoder = inputs * (4 * projection + feed_forward + 4 * inputs * heads)
    own = targets * (4 * projection + feed_forward + 4 * targets * heads)
    cross = (2 * targets + 2 * inputs) * projection + 4 * targets * inputs * heads
    logits = 2 * targets * width * config.vocab_size
    return config.num_encoder_layers * encoder + config.num_decoder_layers * (own + cross) + logits


def example_flops(config: T5Config, inputs: int, targets: int) -> float:
    """Multiplications and additions of one update on one example: forward, and twice that backward.

    So PaLM's authors count (Chowdhery et al. 2022, appendix B); recomputation does not count.
    """
    return 3.0 * forward_flops(config, inputs, targets)


def mean_pair_flops(config: T5Config, pairs: Iterable) -> float:
    """The same of a pair, (label example, rationale example), each (inputs, targets): the mean of all pairs."""
    counts = [sum(example_flops(config, *map(len, example)) for example in pair) for pair in pairs]
    return sum(counts) / len(counts)
