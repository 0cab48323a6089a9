"""The encoder and the decoder of a T5: stacks of layers, unrolled or under `nn.scan`."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen import partitioning

from distill_jax.models.config import ModelConfig, T5Config
from distill_jax.models.layers import (
    MASKED,
    Attention,
    LayerNorm,
    MlpBlock,
    Projection,
    RelativePositionBias,
    next_place,
)

Array = jax.Array


class Distances(NamedTuple):
    """What an attention to the text itself sees: bool `mask` [batch or 1, 1, queries, keys], and how far away.

    Attributes:
      queries: int32 [queries], consecutive, as are the keys.
      keys: int32 [keys].
      age: int32 [keys], steps since each position of a ring buffer was written; None without one.
    """

    mask: Array
    queries: Array
    keys: Array
    age: Array | None = None


def position_bias(relative: RelativePositionBias, seen: Distances) -> Array:
    """float32 [batch or 1, heads, queries, keys], by distance; `MASKED` where a token is not seen."""
    if seen.age is None:
        return jnp.where(seen.mask, relative(seen.queries, seen.keys), MASKED)
    # Distances are the same for all rows; positions that a row has not written itself are masked.
    by_age = relative(seen.keys[-1:], seen.keys)[..., ::-1]
    return jnp.where(seen.mask, jnp.take(by_age, seen.age, axis=-1), MASKED)


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


def apply_layers(
    layer_class, count: int, settings: tuple, x: Array, *args, per_layer: Sequence[Any] = ()
) -> tuple[Array, Any]:
    """Runs `count` layers: `layers_<n>`, or one scanned `layers` with stacked parameters.

    A layer is made of `settings`, the config first. It is called with `x`, its own entry of each of `per_layer`
    (an array [count, ...], a tuple of as many or, where layers are scanned, arrays stacked so; None stays None)
    and `args`, and returns the new `x` and an output.

    Returns:
      The last `x`, and the outputs of all layers: a tuple, or stacked where layers are scanned.
    """
    cfg: ModelConfig = settings[0]
    if cfg.remat != "none":
        policy = {"full": None, "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable}
        layer_class = partitioning.remat(layer_class, prevent_cse=not cfg.scan_layers, policy=policy[cfg.remat])
    if not cfg.scan_layers:
        outputs = []
        for n in range(count):
            own = [None if entries is None else entries[n] for entries in per_layer]
            x, output = layer_class(*settings, name=f"layers_{n}")(x, *own, *args)
            outputs.append(output)
        return x, tuple(outputs)
    scanned = partitioning.scan_with_axes(
        layer_class,
        variable_axes={"params": 0, "cache": 0, "cross": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=(*[0] * len(per_layer), *[nn.broadcast] * len(args)),
        length=count,
        unroll=cfg.scan_unroll,
        axis_name="layers",
    )
    return scanned(*settings, name="layers")(x, *per_layer, *args)


class Encoder(nn.Module):
    """Embedding, layers, norm; layers with a position bias of their own (UMT5) are handed the distances."""

    config: T5Config
    embed: nn.Module
    layer: type[nn.Module] = EncoderLayer
    shares_bias: bool = True

    @nn.compact
    def __call__(self, tokens: Array, mask: Array, positions: Array, deterministic: bool) -> Array:
        """int32 [batch, length], bool mask [batch, 1, length, length] -> [batch, length, embed]."""
        del positions
        cfg = self.config
        places = jnp.arange(tokens.shape[1])
        seen = Distances(mask, places, places)
        if self.shares_bias:
            seen = position_bias(RelativePositionBias(cfg.num_heads, True, name="relpos_bias"), seen)
        x = nn.Dropout(cfg.dropout_rate, (-2,))(self.embed(tokens), deterministic=deterministic)
        x, _ = apply_layers(self.layer, cfg.num_encoder_layers, (cfg, deterministic), x, seen)
        x = LayerNorm(cfg.dtype, name="encoder_norm")(x)
        return nn.Dropout(cfg.dropout_rate)(x, deterministic=deterministic)


class Decoder(nn.Module):
    """Embedding, layers, norm; the logits are a separate method."""

    config: T5Config
    embed: nn.Module
    layer: type[nn.Module] = DecoderLayer
    shares_bias: bool = True

    def setup(self):
        cfg = self.config
        if not cfg.logits_via_embedding:
            self.logits_dense = Projection(cfg.vocab_size, ("embed", "vocab"), "float32")

    @nn.compact
    def hidden(
        self,
        encoded: Array,
        tokens: Array,
        mask: Array | None,
        cross_mask: Array,
        positions: Array,
        deterministic: bool,
        decode: bool,
        max_decode_length: int | None,
        row_starts: Array | None = None,
    ) -> Array:
        """int32 [batch, length] -> [batch, length, embed], the input of the logits.

        With `row_starts`, int32 [batch], the cache is a ring buffer of `max_decode_length` positions: step n is
        stored at position n modulo that length in every row, whenever the row started.
        """
        del positions
        cfg = self.config
        cache_index = None
        queries = keys = jnp.arange(tokens.shape[1])
        if decode:
            cache_index, is_allocated = next_place(self)
            if is_allocated:
                keys, queries = jnp.arange(max_decode_length), cache_index[None]
            mask = keys[None, :] <= queries[:, None]
        age = None
        if decode and row_starts is not None and is_allocated:
            age = (cache_index - keys) % max_decode_length
            mask = age <= (cache_index - row_starts)[:, None, None, None]
            cache_index = cache_index % max_decode_length
        seen = Distances(mask, queries, keys, age)
        if self.shares_bias:
            seen = position_bias(RelativePositionBias(cfg.num_heads, False, name="relpos_bias"), seen)
        cross_bias = jnp.where(cross_mask, 0.0, MASKED)
        y = nn.Dropout(cfg.dropout_rate, (-2,))(self.embed(tokens), deterministic=deterministic)
        args = (encoded, seen, cross_bias, cache_index)
        y, _ = apply_layers(self.layer, cfg.num_decoder_layers, (cfg, deterministic), y, *args)
        y = LayerNorm(cfg.dtype, name="decoder_norm")(y)
        return nn.Dropout(cfg.dropout_rate, (-2,))(y, deterministic=deterministic)

    def logits(self, states: Array) -> Array:
        """[batch, length, embed] -> float32 [batch, length, vocab]."""
        if self.config.logits_via_embedding:
            return self.embed.attend(states) / jnp.sqrt(states.shape[-1])
        return self.logits_dense(states)
