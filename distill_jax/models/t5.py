"""The student: T5 1.0 and 1.1 with T5X's parameter tree, logical axes and call signature.

It serves our engine and, unchanged, as the `module` of `t5x.models.EncoderDecoderModel`. Raffel et al.
2020 (arXiv:1910.10683); the structure is that of `t5x/examples/t5/network.py`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen import partitioning

from distill_jax.models.config import T5Config
from distill_jax.models.layers import (
    MASKED,
    Attention,
    Embed,
    LayerNorm,
    MlpBlock,
    Projection,
    RelativePositionBias,
)

Array = jax.Array


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each after a norm and added to its input."""

    config: T5Config
    deterministic: bool

    @nn.compact
    def __call__(self, x: Array, bias: Array) -> tuple[Array, None]:
        """[batch, length, embed] and its attention bias -> the same shape; None is for `nn.scan`."""
        cfg, deterministic = self.config, self.deterministic
        dropout = nn.Dropout(cfg.dropout_rate, (-2,), deterministic=deterministic)
        y = LayerNorm(cfg.dtype, name="pre_attention_layer_norm")(x)
        x = x + dropout(Attention(cfg, deterministic, name="attention")(y, y, bias, None))
        y = LayerNorm(cfg.dtype, name="pre_mlp_layer_norm")(x)
        return x + dropout(MlpBlock(cfg, deterministic, name="mlp")(y)), None


class DecoderLayer(nn.Module):
    """Self-attention, attention to the encoder's output, feed-forward."""

    config: T5Config
    deterministic: bool

    @nn.compact
    def __call__(
        self, x: Array, encoded: Array, bias: Array, cross_bias: Array, cache_index: Array | None
    ) -> tuple[Array, None]:
        """[batch, length, embed] -> the same shape; None is for `nn.scan`."""
        cfg, deterministic = self.config, self.deterministic
        dropout = nn.Dropout(cfg.dropout_rate, (-2,), deterministic=deterministic)
        y = LayerNorm(cfg.dtype, name="pre_self_attention_layer_norm")(x)
        attention = Attention(cfg, deterministic, name="self_attention")
        x = x + dropout(attention(y, y, bias, cache_index))
        y = LayerNorm(cfg.dtype, name="pre_cross_attention_layer_norm")(x)
        attention = Attention(cfg, deterministic, cross=True, name="encoder_decoder_attention")
        x = x + dropout(attention(y, encoded, cross_bias, cache_index))
        y = LayerNorm(cfg.dtype, name="pre_mlp_layer_norm")(x)
        return x + dropout(MlpBlock(cfg, deterministic, name="mlp")(y)), None


def _apply_layers(layer_class, count: int, cfg: T5Config, deterministic: bool, x: Array, *args):
    """Runs `count` layers: `layers_<n>`, or one scanned `layers` with stacked parameters."""
    if cfg.remat != "none":
        policy = {"full": None, "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable}
        layer_class = partitioning.remat(layer_class, prevent_cse=not cfg.scan_layers, policy=policy[cfg.remat])
    if not cfg.scan_layers:
        for n in range(count):
            x, _ = layer_class(cfg, deterministic, name=f"layers_{n}")(x, *args)
        return x
    scanned = partitioning.scan_with_axes(
        layer_class,
        variable_axes={"params": 0, "cache": 0, "cross": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=nn.broadcast,
        length=count,
        unroll=cfg.scan_unroll,
        axis_name="layers",
    )
    return scanned(cfg, deterministic, name="layers")(x, *args)[0]


class Encoder(nn.Module):
    """Embedding, layers, norm."""

    config: T5Config
    embed: nn.Module

    @nn.compact
    def __call__(self, tokens: Array, mask: Array, deterministic: bool) -> Array:
        """int32 [batch, length], bool mask [batch, 1, length, length] -> [batch, length, embed]."""
        cfg = self.config
        positions = jnp.arange(tokens.shape[1])
        relative = RelativePositionBias(cfg.num_heads, True, name="relpos_bias")
        bias = jnp.where(mask, relative(positions, positions), MASKED)
        x = nn.Dropout(cfg.dropout_rate, (-2,))(self.embed(tokens), deterministic=deterministic)
        x = _apply_layers(EncoderLayer, cfg.num_encoder_layers, cfg, deterministic, x, bias)
        x = LayerNorm(cfg.dtype, name="encoder_norm")(x)
        return nn.Dropout(cfg.dropout_rate)(x, deterministic=deterministic)


class Decoder(nn.Module):
    """Embedding, layers, norm; then, apart, the logits."""

    config: T5Config
    embed: nn.Module

    def setup(self):
        cfg = self.config
        if not cfg.logits_via_embedding:
            init = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")
            self.logits_dense = Projection(cfg.vocab_size, ("embed", "vocab"), "float32", init)

    @nn.compact
    def hidden(
        self,
        encoded: Array,
        tokens: Array,
        mask: Array | None,
        cross_mask: Array,
        deterministic: bool,
        decode: bool,
        max_decode_length: int | None,
        row_starts: Array | None = None,
    ) -> Array:
        """int32 [batch, length] -> [batch, length, embed], the input of the logits.

        With `row_starts`, int32 [batch], the cache is a ring of `max_decode_length` places: step n is kept at
        place n modulo that number for every row, whenever the row began.
        """
        cfg = self.config
        cache_index = None
        queries = keys = jnp.arange(tokens.shape[1])
        if decode:
            is_laid_out = self.has_variable("cache", "cache_index")
            index = self.variable("cache", "cache_index", jnp.zeros, (), jnp.int32)
            cache_index = index.value
            if is_laid_out:
                index.value += 1
                keys, queries = jnp.arange(max_decode_length), cache_index[None]
            mask = keys[None, :] <= queries[:, None]
        relative = RelativePositionBias(cfg.num_heads, False, name="relpos_bias")
        if decode and row_starts is not None and is_laid_out:
            # Distances are the same for all rows; what a row has not written itself is masked.
            age = (cache_index - keys) % max_decode_length
            by_age = relative(keys[-1:], keys)[..., ::-1]
            mask = age <= (cache_index - row_starts)[:, None, None, None]
            bias = jnp.where(mask, jnp.take(by_age, age, axis=-1), MASKED)
            cache_index = cache_index % max_decode_length
        else:
            bias = jnp.where(mask, relative(queries, keys), MASKED)
        cross_bias = jnp.where(cross_mask, 0.0, MASKED)
        y = nn.Dropout(cfg.dropout_rate, (-2,))(self.embed(tokens), deterministic=deterministic)
        y = _apply_layers(
            DecoderLayer,
            cfg.num_decoder_layers,
            cfg,
            deterministic,
            y,
            encoded,
            bias,
            cross_bias,
            cache_index,
        )
        y = LayerNorm(cfg.dtype, name="decoder_norm")(y)
        return nn.Dropout(cfg.dropout_rate, (-2,))(y, deterministic=deterministic)

    def logits(self, states: Array) -> Array:
        """[batch, length, embed] -> float32 [batch, length, vocab]."""
        if self.config.logits_via_embedding:
            return self.embed.attend(states) / jnp.sqrt(states.shape[-1])
        return self.logits_dense(states)


def _same_segment(queries: Array, keys: Array) -> Array:
    """int32 [batch, q], int32 [batch, k] -> bool [batch, 1, q, k]."""
    return (queries[:, :, None] == keys[:, None, :])[:, None]


class Transformer(nn.Module):
    """An encoder-decoder T5.

    Tokens are int32 and 0 is padding; segment ids (from 1; 0 is padding) keep packed examples apart.
    """

    config: T5Config

    @property
    def scan_layers(self) -> bool:
        """T5X's decoding asks: caches then have the layers as their first axis."""
        return self.config.scan_layers

    def setup(self):
        cfg = self.config
        self.token_embedder = Embed(cfg.vocab_size, cfg.emb_dim, cfg.dtype)
        self.encoder = Encoder(cfg, self.token_embedder)
        self.decoder = Decoder(cfg, self.token_embedder)

    def encode(
        self,
        encoder_input_tokens: Array,
        encoder_segment_ids: Array | None = None,
        enable_dropout: bool = True,
    ) -> Array:
        """int32 [batch, inputs] -> [batch, inputs, embed]."""
        mask = (encoder_input_tokens > 0)[:, None, None, :]
        if encoder_segment_ids is not None:
            mask = mask & _same_segment(encoder_segment_ids, encoder_segment_ids)
        return self.encoder(encoder_input_tokens, mask, not enable_dropout)

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
        """`decode` short of the logits: [batch, targets, embed].

        See `hidden` for `decoder_cross_segment_ids`, `Decoder.hidden` for `row_starts`.
        """
        if decode and encoder_segment_ids is not None:
            raise ValueError("packed inputs cannot be decoded: encoder_segment_ids was given")
        causal = None
        if not decode:
            positions = jnp.arange(decoder_input_tokens.shape[1])
            causal = (positions[None, :] <= positions[:, None])[None, None]
        cross = (encoder_input_tokens > 0)[:, None, None, :]
        if encoder_segment_ids is not None:
            causal = causal & _same_segment(decoder_segment_ids, decoder_segment_ids)
            read = decoder_segment_ids if decoder_cross_segment_ids is None else decoder_cross_segment_ids
            cross = cross & _same_segment(read, encoder_segment_ids)
        return self.decoder.hidden(
            encoded,
            decoder_input_tokens,
            causal,
            cross,
            not enable_dropout,
            decode,
            max_decode_length,
            row_starts,
        )

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

        With `decode`, the first call lays out a cache for `decoder_input_tokens.shape[1]` positions, and
        each later one takes tokens [batch, 1], that number as `max_decode_length`, and the mutable
        collection `cache`.

        Returns:
          float32 [batch, targets, vocab].
        """
        del decoder_target_tokens, decoder_positions  # T5X passes them
        states = self.decoder_states(
            encoded,
            encoder_input_tokens,
            decoder_input_tokens,
            encoder_segment_ids,
            decoder_segment_ids,
            enable_dropout,
            decode,
            max_decode_length,
        )
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
        """As `__call__`, short of the logits: [batch, targets, embed]; see `output_kernel`.

        With `decoder_cross_segment_ids`, int32 [batch, targets], a decoder token attends to the encoder
        segment of that number, so that several decoder segments can share one.
        """
        del decoder_target_tokens, encoder_positions, decoder_positions
        encoded = self.encode(encoder_input_tokens, encoder_segment_ids, enable_dropout)
        return self.decoder_states(
            encoded,
            encoder_input_tokens,
            decoder_input_tokens,
            encoder_segment_ids,
            decoder_segment_ids,
            enable_dropout,
            decode,
            decoder_cross_segment_ids=decoder_cross_segment_ids,
        )

    def __call__(
        self,
        encoder_input_tokens: Array,
        decoder_input_tokens: Array,
        decoder_target_tokens: Array,
        encoder_segment_ids: Array | None = None,
        decoder_segment_ids: Array | None = None,
        encoder_positions: Array | None = None,
        decoder_positions: Array | None = None,
        *,
        enable_dropout: bool = True,
        decode: bool = False,
    ) -> Array:
        """Teacher forcing.

        Positions are accepted for T5X's sake: T5 sees only differences of positions, which packing does not
        change within a segment.

        Args:
          encoder_input_tokens: int32 [batch, inputs].
          decoder_input_tokens: int32 [batch, targets], the targets shifted right, 0 first.
          decoder_target_tokens: int32 [batch, targets].
          encoder_segment_ids: int32 [batch, inputs], of a packed batch.
          decoder_segment_ids: int32 [batch, targets], of a packed batch.
          encoder_positions: unused.
          decoder_positions: unused.
          enable_dropout: needs the rng `dropout`.
          decode: lays out the cache, see `decode`.

        Returns:
          float32 logits [batch, targets, vocab].
        """
        states = self.hidden(
            encoder_input_tokens,
            decoder_input_tokens,
            decoder_target_tokens,
            encoder_segment_ids,
            decoder_segment_ids,
            enable_dropout=enable_dropout,
            decode=decode,
        )
        return self.decoder.logits(states)


def output_kernel(params: Any, config: T5Config) -> tuple[Array, float]:
    """The projection behind `Transformer.hidden`: logits are `(states * scale) @ kernel`.

    Returns:
      kernel [embed, vocab], and scale: `1 / sqrt(embed)` for tied embeddings, else 1.
    """
    if config.logits_via_embedding:
        return params["token_embedder"]["embedding"].T, config.emb_dim**-0.5
    return params["decoder"]["logits_dense"]["kernel"], 1.0
