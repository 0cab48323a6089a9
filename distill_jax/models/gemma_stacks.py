"""The encoder and the decoder of the families made of Gemma: stacks of layers that a family hands over."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from distill_jax.models.gemma import EncoderLayer, GemmaConfig, RMSNorm, make_embed
from distill_jax.models.layers import Projection, next_place
from distill_jax.models.logits import softcap
from distill_jax.models.stacks import apply_layers

Array = jax.Array


class Encoder(nn.Module):
    """Embedding, layers, norm; without an embedding to share it has its own, `token_embedder`."""

    config: GemmaConfig
    embed: nn.Module | None = None
    layer: type[nn.Module] = EncoderLayer

    @nn.compact
    def __call__(self, tokens: Array, mask: Array, positions: Array, deterministic: bool) -> Array:
        """int32 [batch, length], bool mask [batch, 1, length, length] -> [batch, length, embed]."""
        cfg = self.config
        embed = self.embed if self.embed is not None else make_embed(cfg, name="token_embedder")
        places = jnp.arange(tokens.shape[1])
        local = mask & cfg.encoder_window(places[:, None] - places[None, :])
        full_rotation, local_rotation = cfg.rotations(positions)
        x = nn.Dropout(cfg.dropout_rate, (-2,))(embed(tokens), deterministic=deterministic)
        views = ((mask, full_rotation), (local, local_rotation))
        depth = cfg.num_encoder_layers
        full = (cfg.full_layers(depth),)
        x, _ = apply_layers(self.layer, depth, (cfg, deterministic), x, *views, per_layer=full)
        x = RMSNorm(cfg.dtype, name="encoder_norm")(x)
        return nn.Dropout(cfg.dropout_rate)(x, deterministic=deterministic)


class Decoder(nn.Module):
    """Embedding, layers, norm; the logits are a separate method."""

    config: GemmaConfig
    embed: nn.Module
    layer: type[nn.Module]

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

        The arguments are those of `stacks.Decoder.hidden`. Keys are cached as they are rotated, at the
        positions of their own row.
        """
        cfg = self.config
        cache_index = None
        places = jnp.arange(tokens.shape[1])
        age = places[:, None] - places[None, :]
        if decode:
            cache_index, is_allocated = next_place(self)
            mask = age >= 0
            if is_allocated:
                positions = (
                    cache_index[None, None] if row_starts is None else (cache_index - row_starts)[:, None]
                )
                age = (cache_index - jnp.arange(max_decode_length)) % max_decode_length
                mask = age <= positions[:, None, :, None]
                cache_index = cache_index % max_decode_length
            mask = jnp.broadcast_to(mask, (1, 1, *mask.shape)) if mask.ndim == 2 else mask
        full_rotation, local_rotation = cfg.rotations(positions)
        views = ((mask, full_rotation), (mask & (age < cfg.sliding_window), local_rotation))
        y = nn.Dropout(cfg.dropout_rate, (-2,))(self.embed(tokens), deterministic=deterministic)
        depth, rest = cfg.num_decoder_layers, (encoded, cross_mask, cache_index)
        full = (cfg.full_layers(depth),)
        y, _ = apply_layers(self.layer, depth, (cfg, deterministic), y, *views, *rest, per_layer=full)
        y = RMSNorm(cfg.dtype, name="decoder_norm")(y)
        return nn.Dropout(cfg.dropout_rate, (-2,))(y, deterministic=deterministic)

    def logits(self, states: Array) -> Array:
        """[batch, length, embed] -> float32 [batch, length, vocab]."""
        cfg = self.config
        logits = self.embed.attend(states) if cfg.logits_via_embedding else self.logits_dense(states)
        return softcap(logits, cfg.logits_cap)
