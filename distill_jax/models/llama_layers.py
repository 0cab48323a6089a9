"""The layers of a decoder-only student, and their stack; see `llama`."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from distill_jax.models.layers import (
    ATTENTION_INIT,
    MASKED,
    LayerNorm,
    MlpBlock,
    Projection,
    append_to_cache,
    next_place,
)
from distill_jax.models.llama_config import LlamaConfig
from distill_jax.models.rotary import rotate, rotation, wavelengths
from distill_jax.models.sharding import constrain
from distill_jax.models.stacks import apply_layers

Array = jax.Array
Keys = tuple[Array, Array]  # keys and values, [batch, key heads, length, head_dim] each


def inverse_wavelengths(config: LlamaConfig) -> Array:
    """float32 [head_dim / 2], radians per position, `rope_scaling` applied."""
    radians = wavelengths(config.head_dim, config.rope_base)
    if not config.rope_scaling:
        return radians
    scaled = radians / config.rope_scaling[0]
    if len(config.rope_scaling) == 1:
        return scaled
    _, low, high, length = config.rope_scaling
    turns = length * radians / (2 * jnp.pi)  # within the length of the first training
    unscaled = jnp.clip((turns - low) / (high - low), 0.0, 1.0)
    return unscaled * radians + (1 - unscaled) * scaled


class Masks(NamedTuple):
    """What attends to what, bool [batch or 1, queries, keys]; None where there are none.

    Inside the layers these are biases, float32 [batch or 1, 1, 1, queries, keys], 0 or `MASKED`.

    Attributes:
      prefix: of the prefix's tokens to themselves.
      to_prefix: of the targets' tokens to the prefix.
      targets: of the targets' tokens to themselves, or to those in the cache.
    """

    prefix: Array | None = None
    to_prefix: Array | None = None
    targets: Array | None = None

    def positions(self) -> Array:
        """int32 [batch or 1, length]: how many tokens stand before each; it starts anew in each segment."""
        own = [] if self.prefix is None else [self.prefix.sum(-1)]
        if self.targets is not None:
            own.append(self.to_prefix.sum(-1) + self.targets.sum(-1))
        batch = max(x.shape[0] for x in own)
        return jnp.concatenate([jnp.broadcast_to(x, (batch, x.shape[1])) for x in own], axis=1) - 1

    def biases(self) -> "Masks":
        """For the layers."""
        return jax.tree.map(lambda mask: jnp.where(mask, 0.0, MASKED)[:, None, None], self)


class Attention(nn.Module):
    """Causal attention with rotary positions and grouped queries.

    Decoding caches as T5's attention does: `cache` grows by a position a step, `cross` has the prefix.
    """

    config: LlamaConfig
    deterministic: bool

    @nn.compact
    def __call__(
        self, x: Array, angles: tuple[Array, Array], biases: Masks, prefix: Keys | None, index: Array | None
    ) -> tuple[Array, Keys]:
        """Attends from `x`, which is the prefix, then the targets, or one of them.

        Args:
          x: [batch, length, embed].
          angles: of its positions, see `rotation`.
          biases: say how much of `x` is prefix.
          prefix: of targets alone; None where `cross` has it.
          index: int32 [], the position of the cache to write; None outside of decoding.

        Returns:
          [batch, length, embed], and the keys of `x`.
        """
        cfg = self.config

        def project(name, heads, norm):
            y = Projection(heads * cfg.head_dim, ("embed", "joined_kv"), cfg.dtype, ATTENTION_INIT, name=name)(
                x
            )
            y = y.reshape(*y.shape[:2], heads, cfg.head_dim)
            if norm and cfg.qk_norm:
                y = LayerNorm(cfg.dtype, cfg.norm_epsilon, "kv", name=f"{name}_norm")(y)
            y = constrain(y.swapaxes(1, 2), "batch", "heads", "length", "kv")
            return rotate(y, angles) if norm else y

        query = project("query", cfg.num_heads, True) * cfg.head_dim**-0.5
        key, value = project("key", cfg.num_kv_heads, True), project("value", cfg.num_kv_heads, False)
        keys, length = (key, value), 0 if biases.prefix is None else biases.prefix.shape[-1]
        outputs = []
        if length:
            prefix = key[:, :, :length], value[:, :, :length]
            outputs.append(self._attend(query[:, :, :length], (prefix, biases.prefix)))
        if biases.targets is not None:
            prefix = self._cached_prefix(prefix, index is not None)
            own = key[:, :, length:], value[:, :, length:]
            if index is not None:
                names = ("cached_key", "cached_value")
                own = tuple(append_to_cache(self, name, x, index) for name, x in zip(names, own, strict=True))
            both = (prefix, biases.to_prefix), (own, biases.targets)
            outputs.append(self._attend(query[:, :, length:], *both))
        y = jnp.concatenate(outputs, axis=2).swapaxes(1, 2).reshape(*x.shape[:2], -1)
        y = constrain(y, "batch", "length", "joined_kv")
        y = Projection(x.shape[-1], ("joined_kv", "embed"), cfg.dtype, ATTENTION_INIT, name="out")(y)
        return constrain(y, "batch", "length", "embed"), keys

    def _attend(self, query: Array, *parts: tuple[Keys, Array]) -> Array:
        """[batch, heads, queries, head_dim] over all the keys of all parts, each with its bias -> the same."""
        cfg, (batch, _, queries, _) = self.config, query.shape
        groups = query.reshape(batch, cfg.num_kv_heads, -1, queries, cfg.head_dim)
        logits = [
            jnp.einsum("bhgqd,bhkd->bhgqk", groups, key).astype(jnp.float32) + bias for (key, _), bias in parts
        ]
        largest = logits[0].max(axis=-1, keepdims=True)
        for other in logits[1:]:
            largest = jnp.maximum(largest, other.max(axis=-1, keepdims=True))
        # One softmax over the parts, without putting their keys side by side; its division comes last.
        weights = [jnp.exp(part - jax.lax.stop_gradient(largest)) for part in logits]
        total = sum(part.sum(axis=-1, keepdims=True) for part in weights)
        y = 0.0
        for part, ((_, value), _) in zip(weights, parts, strict=True):
            dropout = nn.Dropout(cfg.dropout_rate, broadcast_dims=(-2,))
            part = dropout(part.astype(cfg.dtype), deterministic=self.deterministic)
            y += jnp.einsum("bhgqk,bhkd->bhgqd", part, value)
        return (y / total).astype(cfg.dtype).reshape(query.shape)

    def _cached_prefix(self, prefix: Keys | None, decode: bool) -> Keys:
        """The prefix's keys, from the collection `cross` where it has them; written while it is mutable."""
        if self.has_variable("cross", "key"):
            return self.get_variable("cross", "key"), self.get_variable("cross", "value")
        if decode and self.is_mutable_collection("cross"):
            self.put_variable("cross", "key", prefix[0])
            self.put_variable("cross", "value", prefix[1])
        return prefix


class Layer(nn.Module):
    """Attention and feed-forward, each after a norm and added to its input."""

    config: LlamaConfig
    deterministic: bool
    gives_keys: bool

    @nn.compact
    def __call__(self, x: Array, prefix: Keys | None, angles, biases: Masks, index: Array | None):
        """[batch, length, embed] -> the same shape, and with `gives_keys` the keys; see `Attention`."""
        cfg, deterministic = self.config, self.deterministic
        dropout = nn.Dropout(cfg.dropout_rate, (-2,), deterministic=deterministic)
        y = LayerNorm(cfg.dtype, cfg.norm_epsilon, name="pre_self_attention_layer_norm")(x)
        y, keys = Attention(cfg, deterministic, name="self_attention")(y, angles, biases, prefix, index)
        x = x + dropout(y)
        y = LayerNorm(cfg.dtype, cfg.norm_epsilon, name="pre_mlp_layer_norm")(x)
        return x + dropout(MlpBlock(cfg, deterministic, name="mlp")(y)), keys if self.gives_keys else None


class Decoder(nn.Module):
    """Embedding, layers, norm; the logits are a separate method."""

    config: LlamaConfig
    embed: nn.Module

    def setup(self):
        if not self.config.logits_via_embedding:
            self.logits_dense = Projection(self.config.vocab_size, ("embed", "vocab"), "float32")

    @nn.compact
    def hidden(
        self,
        tokens: Array,
        masks: Masks,
        deterministic: bool,
        prefix: Any = None,
        gives_keys: bool = False,
        decode: bool = False,
        max_decode_length: int | None = None,
        row_starts: Array | None = None,
    ) -> tuple[Array, Any]:
        """The states of a prefix, of targets, or of both, one after the other.

        Args:
          tokens: int32 [batch, length].
          masks: what they attend to.
          deterministic: without dropout.
          prefix: of targets alone, the `Keys` of every layer: a tuple, or with scanned layers stacked along a
            first axis; None where the collection `cross` has them.
          gives_keys: whether to return the keys.
          decode: with `max_decode_length` and `row_starts` as of `stacks.Decoder.hidden`.

        Returns:
          [batch, length, embed], and with `gives_keys` the `Keys` of every layer, as `prefix` has them.
        """
        cfg, index = self.config, None
        if decode:
            now, is_allocated = next_place(self)
            index = now
            if is_allocated:
                places = jnp.arange(max_decode_length)
                before = (places <= now)[None, None]
                if row_starts is not None:
                    index = now % max_decode_length
                    before = (now - places) % max_decode_length <= (now - row_starts)[:, None, None]
                masks = masks._replace(targets=before)
        angles = rotation(masks.positions(), inverse_wavelengths(cfg))
        x = nn.Dropout(cfg.dropout_rate, (-2,))(self.embed(tokens), deterministic=deterministic)
        settings, args = (cfg, deterministic, gives_keys), (angles, masks.biases(), index)
        x, keys = apply_layers(Layer, cfg.num_decoder_layers, settings, x, *args, per_layer=(prefix,))
        x = LayerNorm(cfg.dtype, cfg.norm_epsilon, name="decoder_norm")(x)
        return nn.Dropout(cfg.dropout_rate, (-2,))(x, deterministic=deterministic), keys

    def logits(self, states: Array) -> Array:
        """[batch, length, embed] -> float32 [batch, length, vocab]."""
        return self.embed.attend(states) if self.config.logits_via_embedding else self.logits_dense(states)
