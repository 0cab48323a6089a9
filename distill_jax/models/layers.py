"""The parts of a T5 layer. Parameters have T5X's names, shapes and logical axes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.partitioning import param_with_axes

from distill_jax.models.config import T5Config
from distill_jax.models.lora import A, B
from distill_jax.models.product import product
from distill_jax.models.sharding import by_shard, constrain, gather

Array = jax.Array
MASKED = -1e10  # added to an attention logit that must not count; T5X's value


NUM_BUCKETS, MAX_DISTANCE = 32, 128  # of relative positions
ATTENTION_INIT = nn.initializers.variance_scaling(1.0, "fan_in", "normal")


class Projection(nn.Module):
    """`x @ kernel` without bias; kernel [in, out], both with a logical axis; an adapter adds its own."""

    features: int
    axes: tuple[str, str]
    dtype: str
    init: Callable = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = param_with_axes("kernel", self.init, (x.shape[-1], self.features), jnp.float32, axes=self.axes)
        # As one matrix of tokens: on CPU the gradient of a 3-D product takes several times as long.
        tokens = x.astype(self.dtype).reshape(-1, x.shape[-1])
        y = product(tokens, gather(kernel.astype(self.dtype), self.axes))
        if self.has_variable("params", A):  # see `lora`
            down, up = (self.get_variable("params", name).astype(self.dtype) for name in (A, B))
            low = product(tokens, gather(down, (self.axes[0], None)))
            y += product(low, gather(up, (None, self.axes[1])))
        return y.reshape(*x.shape[:-1], self.features)


class LayerNorm(nn.Module):
    """Root mean square norm in float32 (Zhang & Sennrich 2019): no mean, no bias."""

    dtype: str
    epsilon: float = 1e-6
    axis: str = "embed"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = param_with_axes("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32, axes=(self.axis,))
        x = x.astype(jnp.float32)
        x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + self.epsilon)
        return x.astype(self.dtype) * scale.astype(self.dtype)


# Up to this many ids the gradient of the embedding is a one-hot product; beyond, a scatter. XLA on CPU runs a
# scatter token by token, several microseconds each, which slows a small student down.
ONE_HOT_IDS = 4096


@jax.custom_vjp
def _lookup(embedding: Array, tokens: Array) -> Array:
    """float32 [vocab, embed], int32 [batch, length] -> [batch, length, embed]."""
    return embedding[tokens]


def _lookup_forward(embedding, tokens):
    return _lookup(embedding, tokens), (tokens, embedding.shape[0])


def _lookup_backward(residuals, grad):
    tokens, vocab_size = residuals
    tokens, grad = tokens.reshape(-1), grad.reshape(-1, grad.shape[-1])
    if vocab_size <= ONE_HOT_IDS:
        return jax.nn.one_hot(tokens, vocab_size, dtype=grad.dtype).T @ grad, None
    return jnp.zeros((vocab_size, grad.shape[1]), grad.dtype).at[tokens].add(grad), None


_lookup.defvjp(_lookup_forward, _lookup_backward)


class Embed(nn.Module):
    """Token embedding [vocab, embed], read by gather."""

    vocab_size: int
    features: int
    dtype: str
    stddev: float = 1.0

    def setup(self):
        init, shape = nn.initializers.normal(self.stddev), (self.vocab_size, self.features)
        self.embedding = param_with_axes("embedding", init, shape, jnp.float32, axes=("vocab", "embed"))

    def __call__(self, tokens: Array) -> Array:
        """int32 [batch, length] -> [batch, length, embed]."""
        x = by_shard(
            lambda tokens, table: _lookup(table, tokens).astype(self.dtype),
            (tokens,),
            (self.embedding,),
            ("vocab", "embed"),
            lambda parts: parts.reshape(*tokens.shape, self.features),
        )
        return constrain(x, "batch", "length", "embed")

    def attend(self, x: Array) -> Array:
        """[batch, length, embed] -> float32 logits [batch, length, vocab]."""
        return x.astype(jnp.float32) @ self.embedding.T


def relative_position_bucket(
    relative_position: Array, bidirectional: bool, num_buckets: int, max_distance: int
) -> Array:
    """T5's buckets (Raffel et al. 2020): half exact, half logarithmic up to `max_distance`.

    Args:
      relative_position: int32 of any shape, key position minus query position.
      bidirectional: buckets for each sign; else all positions ahead share bucket 0.
      num_buckets: buckets in all; the result is in [0, num_buckets).
      max_distance: distances from here on share the last bucket.
    """
    distance = -relative_position
    offset = 0
    if bidirectional:
        num_buckets //= 2
        offset = jnp.where(distance < 0, num_buckets, 0)
        distance = jnp.abs(distance)
    distance = jnp.maximum(distance, 0)
    exact = num_buckets // 2
    ratio = jnp.log(jnp.maximum(distance, 1) / exact) / jnp.log(max_distance / exact)
    logarithmic = exact + (ratio * (num_buckets - exact)).astype(jnp.int32)
    far = jnp.minimum(logarithmic, num_buckets - 1)
    return offset + jnp.where(distance < exact, distance, far)


class RelativePositionBias(nn.Module):
    """Learned bias of the attention logits by distance; one table for all layers of a stack."""

    num_heads: int
    bidirectional: bool

    @nn.compact
    def __call__(self, query_positions: Array, key_positions: Array) -> Array:
        """int32 [queries], int32 [keys], both consecutive -> float32 [1, heads, queries, keys]."""
        init = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
        shape, axes = (self.num_heads, NUM_BUCKETS), ("heads", "relpos_buckets")
        table = param_with_axes("rel_embedding", init, shape, jnp.float32, axes=axes)
        # The bias depends on key - query alone, so it is looked up once per distance, by a one-hot product,
        # and arranged by reshaping: entry [i, j] of `count - 1` columns is number (j - i) mod count.
        queries, keys = query_positions.shape[0], key_positions.shape[0]
        count = queries + keys
        distances = jnp.arange(count)
        distances = jnp.where(distances < keys, distances, distances - count)
        distances = distances + key_positions[0] - query_positions[0]
        buckets = relative_position_bucket(distances, self.bidirectional, NUM_BUCKETS, MAX_DISTANCE)
        by_distance = table @ jax.nn.one_hot(buckets, NUM_BUCKETS, dtype=table.dtype).T
        tiled = jnp.tile(by_distance, (1, queries))[:, : queries * (count - 1)]
        return tiled.reshape(1, -1, queries, count - 1)[..., :keys]


def next_place(module: nn.Module) -> tuple[Array, bool]:
    """The number of the step that is decoded, int32 [], and whether the cache was allocated before.

    The module's `cache_index` counts the calls but for the first, which only allocates the cache.
    """
    is_allocated = module.has_variable("cache", "cache_index")
    index = module.variable("cache", "cache_index", jnp.zeros, (), jnp.int32)
    now = index.value
    if is_allocated:
        index.value += 1
    return now, is_allocated


def append_to_cache(module: nn.Module, name: str, new: Array, index: Array) -> Array:
    """Writes [batch, heads, 1, head_dim] at `index` of the module's cache; returns all of the cache.

    The first call, with all positions at once, only allocates the cache.
    """
    is_allocated = module.has_variable("cache", name)
    cache = module.variable("cache", name, jnp.zeros, new.shape, new.dtype)
    if is_allocated:
        cache.value = jax.lax.dynamic_update_slice_in_dim(cache.value, new, index, axis=2)
    return cache.value


class Attention(nn.Module):
    """Multi-head attention, without T5's missing 1/sqrt(head_dim): it is in the initialiser.

    Decoding caches keys and values in two collections, [batch, heads, length, head_dim]. `cache`, of the
    self-attention, grows by a position a step. `cross`, of the encoder's output, is written once, when it is
    mutable, and then read instead of computed.
    """

    config: T5Config
    deterministic: bool
    cross: bool = False

    @nn.compact
    def __call__(self, x: Array, source: Array, bias: Array, cache_index: Array | None) -> Array:
        """Attends from `x` to `source`.

        Args:
          x: [batch, queries, embed].
          source: [batch, keys, embed]; `x` itself for self-attention.
          bias: float32 [batch or 1, heads or 1, queries, keys], added to the logits.
          cache_index: int32 [], the position being decoded; None outside of decoding.

        Returns:
          [batch, queries, embed].
        """
        cfg = self.config
        joined = cfg.num_heads * cfg.head_dim

        def project(name, init, y):
            y = Projection(joined, ("embed", "joined_kv"), cfg.dtype, init, name=name)(y)
            y = y.reshape(*y.shape[:2], cfg.num_heads, cfg.head_dim).swapaxes(1, 2)
            return constrain(y, "batch", "heads", "length", "kv")

        query_init = nn.initializers.variance_scaling(1.0 / cfg.head_dim, "fan_in", "normal")
        query = project("query", query_init, x)
        if self.cross and self.has_variable("cross", "key"):
            key, value = (self.get_variable("cross", name) for name in ("key", "value"))
        else:
            key, value = (project(name, ATTENTION_INIT, source) for name in ("key", "value"))
            if self.cross and cache_index is not None and self.is_mutable_collection("cross"):
                self.put_variable("cross", "key", key)
                self.put_variable("cross", "value", value)
        if cache_index is not None and not self.cross:
            key = append_to_cache(self, "cached_key", key, cache_index)
            value = append_to_cache(self, "cached_value", value, cache_index)

        if cfg.float32_attention_logits:
            query, key = query.astype(jnp.float32), key.astype(jnp.float32)
        logits = jnp.einsum("bhqd,bhkd->bhqk", query, key)
        logits += bias.astype(logits.dtype)
        # The softmax's division comes last, on [queries, head_dim] in place of [queries, keys].
        weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True)))
        total = weights.sum(axis=-1, keepdims=True, dtype=jnp.float32)
        dropout = nn.Dropout(cfg.dropout_rate, broadcast_dims=(-2,))
        weights = dropout(weights.astype(cfg.dtype), deterministic=self.deterministic)
        y = jnp.einsum("bhqk,bhkd->bhqd", weights, value)
        y = (y / total).astype(cfg.dtype)
        y = constrain(y.swapaxes(1, 2).reshape(*x.shape[:2], joined), "batch", "length", "joined_kv")
        y = Projection(x.shape[-1], ("joined_kv", "embed"), cfg.dtype, ATTENTION_INIT, name="out")(y)
        return constrain(y, "batch", "length", "embed")


class MlpBlock(nn.Module):
    """Feed-forward block; the results of two activations are multiplied (T5 1.1's gated GELU, Shazeer 2020)."""

    config: T5Config
    deterministic: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[batch, length, embed] -> the same."""
        cfg = self.config
        gated = len(cfg.mlp_activations) > 1
        y = 1
        for index, activation in enumerate(cfg.mlp_activations):
            name = f"wi_{index}" if gated else "wi"
            part = Projection(cfg.mlp_dim, ("embed", "mlp"), cfg.dtype, name=name)(x)
            y *= part if activation == "linear" else getattr(nn, activation)(part)
        y = constrain(y, "batch", "length", "mlp")
        y = nn.Dropout(cfg.dropout_rate, broadcast_dims=(-2,))(y, deterministic=self.deterministic)
        y = Projection(x.shape[-1], ("mlp", "embed"), cfg.dtype, name="wo")(y)
        return constrain(y, "batch", "length", "embed")
