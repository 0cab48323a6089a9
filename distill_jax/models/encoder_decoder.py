"""What an encoder-decoder of any family does with a batch: masks, positions, and the call signature of T5X.

A family sets up `token_embedder`, `encoder` and `decoder`; see `EncoderDecoder`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from distill_jax.models.config import ModelConfig

Array = jax.Array


def same_segment(queries: Array, keys: Array) -> Array:
    """Segment ids, int32 [batch, q] and int32 [batch, k] -> bool [batch, q, k]."""
    return queries[:, :, None] == keys[:, None, :]


def causal(length: int) -> Array:
    """A token sees itself and those before it: bool [1, length, length]."""
    positions = jnp.arange(length)
    return (positions <= positions[:, None])[None]


def positions_of(tokens: Array, segment_ids: Array | None) -> Array:
    """Positions that restart at each segment of a packed row: int32 [batch or 1, length]."""
    places = jnp.arange(tokens.shape[1], dtype=jnp.int32)[None, :]
    if segment_ids is None:
        return places
    before = jnp.pad(segment_ids, ((0, 0), (1, 0)))[:, :-1]
    return places - jax.lax.cummax(jnp.where(segment_ids != before, places, 0), axis=1)


class EncoderDecoder(nn.Module):
    """An encoder-decoder; the signatures are T5X's.

    Tokens are int32 and 0 is padding; segment ids (from 1; 0 is padding) keep packed examples apart.

    A family's `setup` makes `token_embedder`; `encoder`, called with (tokens, mask, positions, deterministic);
    and `decoder` with the methods `hidden` (see `stacks.Decoder.hidden`) and `logits`. Caches are the
    collections `cache`, with `decoder/cache_index`, and `cross`; keys and values are [batch, heads, places,
    head_dim].
    """

    config: ModelConfig

    @property
    def scan_layers(self) -> bool:
        """Read by T5X's decoding: with it caches have the layers as their first axis."""
        return self.config.scan_layers

    def encode(
        self, encoder_input_tokens: Array, encoder_segment_ids: Array | None = None, enable_dropout: bool = True
    ) -> Array:
        """int32 [batch, inputs] -> [batch, inputs, embed]."""
        mask = (encoder_input_tokens > 0)[:, None, None, :]
        if encoder_segment_ids is not None:
            mask = mask & same_segment(encoder_segment_ids, encoder_segment_ids)[:, None]
        positions = positions_of(encoder_input_tokens, encoder_segment_ids)
        return self.encoder(encoder_input_tokens, mask, positions, not enable_dropout)

    def decoder_states(
        self,
        encoded: Array,
        encoder_input_tokens: Array,
        decoder_input_tokens: Array,
        encoder_segment_ids: Array | None,
        decoder_segment_ids: Array | None,
        enable_dropout: bool,
        decode: bool,
        max_decode_length: int | None = None,
        decoder_cross_segment_ids: Array | None = None,
        row_starts: Array | None = None,
    ) -> Array:
        """`decode` without the logits: [batch, targets, embed].

        `decoder_cross_segment_ids` is of `hidden`, `row_starts` of `Decoder.hidden`.
        """
        if decode and encoder_segment_ids is not None:
            raise ValueError("packed inputs cannot be decoded: encoder_segment_ids was given")
        mask = None if decode else causal(decoder_input_tokens.shape[1])[:, None]
        cross = (encoder_input_tokens > 0)[:, None, None, :]
        if encoder_segment_ids is not None:
            mask = mask & same_segment(decoder_segment_ids, decoder_segment_ids)[:, None]
            read = decoder_segment_ids if decoder_cross_segment_ids is None else decoder_cross_segment_ids
            cross = cross & same_segment(read, encoder_segment_ids)[:, None]
        positions = positions_of(decoder_input_tokens, decoder_segment_ids)
        options = (not enable_dropout, decode, max_decode_length, row_starts)
        return self.decoder.hidden(encoded, decoder_input_tokens, mask, cross, positions, *options)

    def decode(
        self,
        encoded: Array,
        encoder_input_tokens: Array,
        decoder_input_tokens: Array,
        decoder_target_tokens: Array,
        encoder_segment_ids: Array | None = None,
        decoder_segment_ids: Array | None = None,
        decoder_positions: Array | None = None,
        enable_dropout: bool = True,
        decode: bool = False,
        max_decode_length: int | None = None,
    ) -> Array:
        """Logits from the encoder's output; T5X's signature.

        With `decode`, the first call allocates a cache for `decoder_input_tokens.shape[1]` positions. Later
        calls take tokens [batch, 1], that number as `max_decode_length`, and the mutable collection `cache`.

        Returns:
          float32 [batch, targets, vocab].
        """
        del decoder_target_tokens, decoder_positions  # T5X passes them
        batch = (encoder_input_tokens, decoder_input_tokens, encoder_segment_ids, decoder_segment_ids)
        states = self.decoder_states(encoded, *batch, enable_dropout, decode, max_decode_length)
        return self.decoder.logits(states)

    def hidden(
        self,
        encoder_input_tokens: Array,
        decoder_input_tokens: Array,
        decoder_target_tokens: Array,
        encoder_segment_ids: Array | None = None,
        decoder_segment_ids: Array | None = None,
        encoder_positions: Array | None = None,
        decoder_positions: Array | None = None,
        *,
        decoder_cross_segment_ids: Array | None = None,
        enable_dropout: bool = True,
        decode: bool = False,
    ) -> Array:
        """Teacher forcing: the states that `output_kernel` projects to logits.

        Targets and positions are accepted for compatibility with T5X: positions follow from the segments.

        Args:
          encoder_input_tokens: int32 [batch, inputs].
          decoder_input_tokens: int32 [batch, targets], the targets shifted right, 0 first.
          decoder_target_tokens: unused, as are both positions.
          encoder_segment_ids: int32 [batch, inputs], of a packed batch.
          decoder_segment_ids: int32 [batch, targets], of a packed batch.
          decoder_cross_segment_ids: int32 [batch, targets], the encoder segment that each decoder token attends
            to, so that several decoder segments can share one; None for its own.
          enable_dropout: needs the rng `dropout`.
          decode: allocates the cache of `decode`.

        Returns:
          [batch, targets, embed].
        """
        del decoder_target_tokens, encoder_positions, decoder_positions
        encoded = self.encode(encoder_input_tokens, encoder_segment_ids, enable_dropout)
        batch = (encoder_input_tokens, decoder_input_tokens, encoder_segment_ids, decoder_segment_ids)
        options = {"decoder_cross_segment_ids": decoder_cross_segment_ids}
        return self.decoder_states(encoded, *batch, enable_dropout, decode, **options)

    def __call__(self, *batch: Array | None, **options) -> Array:
        """The arguments of `hidden` -> float32 logits [batch, targets, vocab]; T5X's signature."""
        return self.decoder.logits(self.hidden(*batch, **options))


def output_kernel(params: Any, config: ModelConfig) -> tuple[Array, float]:
    """(kernel [embed, vocab], scale) behind `hidden`: logits are `(states * scale) @ kernel`.

    Where `config.logits_cap` is not 0, they are capped: see `logits.softcap`.
    """
    if config.logits_via_embedding:
        return params["token_embedder"]["embedding"].T, config.logits_scale
    return params["decoder"]["logits_dense"]["kernel"], config.logits_scale
