"""What the encoder-decoders made of Gemma share: their config, norms, rotary positions and attention.

Gemma 2 (arXiv:2408.00118), Gemma 3 (arXiv:2503.19786), T5Gemma (arXiv:2504.06225).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.partitioning import param_with_axes

from distill_jax.errors import UserError
from distill_jax.models.config import ModelConfig
from distill_jax.models.layers import ATTENTION_INIT, MASKED, Embed, MlpBlock, Projection, append_to_cache
from distill_jax.models.logits import softcap
from distill_jax.models.rotary import Rotation, rotate, rotation, wavelengths
from distill_jax.models.sharding import constrain

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class GemmaConfig(ModelConfig):
    """Shape of an encoder-decoder of Gemma's layers.

    Attributes:
      num_kv_heads: heads of keys and values, which groups of query heads share; None for one each.
      sliding_window: tokens that a local layer sees.
      full_attention_every: of so many layers the last sees all tokens, the others are local.
      rope_base: of the rotary positions' wavelengths.
      query_scalar: logits of the attention are divided by its square root; None for head_dim.
      attention_logit_cap: `cap * tanh(logits / cap)` of the attention; 0 for none.
      final_logit_cap: of the output's logits.
    """

    mlp_activations = ("gelu", "linear")

    dropout_rate: float = 0.0
    logits_via_embedding: bool = True
    num_kv_heads: int | None = None
    sliding_window: int = 4096
    full_attention_every: int = 2
    rope_base: float = 10_000.0
    query_scalar: float | None = None
    attention_logit_cap: float = 0.0
    final_logit_cap: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if self.num_heads % self.kv_heads:
            raise UserError(f"num_kv_heads: {self.kv_heads} does not divide the {self.num_heads} num_heads")
        if self.head_dim % 2:
            raise UserError(f"head_dim: rotary positions need an even number, got {self.head_dim}")
        for name in ("sliding_window", "full_attention_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: expected 1 or more, got {getattr(self, name)}")

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.num_kv_heads or self.num_heads

    @property
    def logits_cap(self) -> float:
        """Bound of the output's logits; 0 for none."""
        return self.final_logit_cap

    @property
    def query_scale(self) -> float:
        """Factor of the attention's logits."""
        return (self.query_scalar or self.head_dim) ** -0.5

    @property
    def encoder_stack(self) -> "GemmaConfig":
        """This config with the sizes of the encoder in the place of the decoder's."""
        return self

    def rotations(self, positions: Array) -> tuple[Rotation, Rotation]:
        """The rotary positions of full and of local layers, of int32 [batch or 1, length]."""
        turned = rotation(positions, wavelengths(self.head_dim, self.rope_base))
        return turned, turned

    def encoder_window(self, distance: Array) -> Array:
        """Whether a local layer of the encoder sees a token: bool, of int32 query minus key position."""
        return jnp.abs(distance) <= self.sliding_window

    def full_layers(self, depth: int) -> Array:
        """Of each layer, whether it sees all tokens: bool [depth]."""
        return (jnp.arange(depth) + 1) % self.full_attention_every == 0

    def sharded_sizes(self) -> dict[str, list[tuple[str, int | None]]]:
        """Logical axis: (option, size) of each array that has it; a mesh has to divide all of them."""
        sizes = super().sharded_sizes()
        if self.kv_heads > 1:  # a single one is replicated
            sizes["kv_heads"] = [("num_kv_heads", self.kv_heads)]
        return sizes

    def attention_parameters(self, source_dim: int) -> int:
        """The number of parameters of an attention to states of this width."""
        joined = self.num_heads * self.head_dim
        return 2 * self.emb_dim * joined + 2 * source_dim * self.kv_heads * self.head_dim


class RMSNorm(nn.Module):
    """Root mean square norm in float32 with the factor `1 + scale`, 0 at first."""

    dtype: str
    axis: str | None = "embed"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = param_with_axes("scale", nn.initializers.zeros, (x.shape[-1],), jnp.float32, axes=(self.axis,))
        x = x.astype(jnp.float32)
        x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6)
        return (x * (1.0 + scale)).astype(self.dtype)


class GemmaEmbed(Embed):
    """Token embedding, scaled by the root of its width where it is read.

    One token, `end_of_image_id`, may have a row of its own that is not scaled; 0 for none.
    """

    end_of_image_id: int = 0

    def setup(self):
        super().setup()
        if self.end_of_image_id:
            init, shape = nn.initializers.zeros, (self.features,)
            self.end_of_image = param_with_axes("end_of_image", init, shape, jnp.float32, axes=("embed",))

    def __call__(self, tokens: Array) -> Array:
        """int32 [batch, length] -> [batch, length, embed]."""
        x = super().__call__(tokens) * jnp.asarray(self.features**0.5, self.dtype)
        if self.end_of_image_id:
            x = jnp.where((tokens == self.end_of_image_id)[..., None], self.end_of_image.astype(x.dtype), x)
        return x


def make_embed(config: GemmaConfig, **fields: Any) -> GemmaEmbed:
    """An embedding that has unit variance once it is scaled."""
    return GemmaEmbed(config.vocab_size, config.emb_dim, config.dtype, config.emb_dim**-0.5, **fields)


class Attention(nn.Module):
    """Grouped-query attention to the text itself, to the encoder's output, or to both in one softmax.

    Several heads of queries share one of keys and values (Ainslie et al. 2023, arXiv:2305.13245). Caches are as
    in `layers.Attention`, with as many heads as keys have. Only keys of the text itself are rotated.
    """

    config: GemmaConfig
    qk_norm: bool = False

    @nn.compact
    def __call__(
        self,
        x: Array,
        own: tuple[Array, Rotation] | None,
        cross: tuple[Array, Array] | None,
        cache_index: Array | None = None,
    ) -> Array:
        """Attends from `x`.

        Args:
          x: [batch, queries, embed].
          own: mask, bool [batch or 1, 1, queries, keys], and rotation of `x`; None for no attention to itself.
          cross: the encoder's output [batch, inputs, its width] and the mask, bool [batch or 1, 1, queries,
            inputs]; None for no attention to it.
          cache_index: int32 [], the position being decoded; None outside of decoding.

        Returns:
          [batch, queries, embed].
        """
        cfg = self.config
        kv_axis = "kv_heads" if cfg.kv_heads > 1 else None
        shared = (cfg.kv_heads, kv_axis)
        heads = {"query": (cfg.num_heads, "joined_kv"), "key": shared, "value": shared}
        projections = {
            name: Projection(count * cfg.head_dim, ("embed", axis), cfg.dtype, ATTENTION_INIT, name=name)
            for name, (count, axis) in heads.items()
        }
        norms = {
            name: RMSNorm(cfg.dtype, None, name=f"{name}_norm") for name in ("query", "key") if self.qk_norm
        }

        def project(name: str, y: Array) -> Array:
            y = projections[name](y)
            y = y.reshape(*y.shape[:2], -1, cfg.head_dim).swapaxes(1, 2)
            y = norms[name](y) if name in norms else y
            return constrain(y, "batch", "heads" if name == "query" else kv_axis, "length", "kv")

        query, parts = project("query", x), []
        if own is not None:
            mask, turned = own
            query = rotate(query, turned)
            key, value = rotate(project("key", x), turned), project("value", x)
            if cache_index is not None:
                key = append_to_cache(self, "cached_key", key, cache_index)
                value = append_to_cache(self, "cached_value", value, cache_index)
            parts.append((key, value, mask))
        if cross is not None:
            encoded, mask = cross
            if self.has_variable("cross", "key"):
                key, value = (self.get_variable("cross", name) for name in ("key", "value"))
            else:
                key, value = project("key", encoded), project("value", encoded)
                if cache_index is not None and self.is_mutable_collection("cross"):
                    self.put_variable("cross", "key", key)
                    self.put_variable("cross", "value", value)
            parts.append((key, value, mask))
        y = self._attend(query, parts)
        y = constrain(y.swapaxes(1, 2).reshape(*x.shape[:2], -1), "batch", "length", "joined_kv")
        y = Projection(x.shape[-1], ("joined_kv", "embed"), cfg.dtype, ATTENTION_INIT, name="out")(y)
        return constrain(y, "batch", "length", "embed")

    def _attend(self, query: Array, parts: list[tuple[Array, Array, Array]]) -> Array:
        """Queries [batch, heads, queries, head_dim] to (key, value, mask) -> the same shape."""
        cfg = self.config
        batch, _, length, _ = query.shape
        # The queries that share a head of keys are rows of one product.
        query = query.reshape(batch, cfg.kv_heads, -1, cfg.head_dim)
        grouped = (batch, cfg.kv_heads, -1, length)
        logits = []
        for key, _, mask in parts:
            some = jnp.einsum("bkqd,bksd->bkqs", query, key, preferred_element_type=jnp.float32)
            some = softcap(some * cfg.query_scale, cfg.attention_logit_cap).reshape(*grouped, key.shape[2])
            logits.append(jnp.where(mask[:, :, None], some, MASKED))
        joined = jnp.concatenate(logits, axis=-1) if len(logits) > 1 else logits[0]
        weights = jnp.exp(joined - jax.lax.stop_gradient(joined.max(axis=-1, keepdims=True)))
        total = weights.sum(axis=-1, keepdims=True)
        weights = weights.astype(cfg.dtype).reshape(batch, cfg.kv_heads, -1, joined.shape[-1])
        y, start = 0.0, 0
        for key, value, _ in parts:
            end = start + key.shape[2]
            y += jnp.einsum("bkqs,bksd->bkqd", weights[..., start:end], value)
            start = end
        y = (y.reshape(*grouped, cfg.head_dim) / total).astype(cfg.dtype)
        return y.reshape(batch, cfg.num_heads, length, cfg.head_dim)


def sublayer(norm: str, config: GemmaConfig, deterministic: bool, x: Array, function: Any) -> Array:
    """`x` plus a function of it, with a norm before and after the function: `pre_<norm>`, `post_<norm>`."""
    y = function(RMSNorm(config.dtype, name=f"pre_{norm}")(x))
    y = RMSNorm(config.dtype, name=f"post_{norm}")(y)
    return x + nn.Dropout(config.dropout_rate, (-2,), deterministic=deterministic)(y)


View = tuple[Array, Rotation]  # what a layer sees of the text itself: mask and rotary positions


def choose(full: Array, if_full: View, if_local: View) -> View:
    """The view of a layer; `full` is bool []."""
    return jax.tree.map(lambda a, b: jnp.where(full, a, b), if_full, if_local)


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward."""

    config: GemmaConfig
    deterministic: bool
    qk_norm: bool = False

    @nn.compact
    def __call__(self, x: Array, full: Array, if_full: View, if_local: View) -> tuple[Array, None]:
        """[batch, length, embed] -> the same shape; None is for `nn.scan`."""
        cfg, rest = self.config, (self.config, self.deterministic)
        attention = Attention(cfg, self.qk_norm, name="attention")
        x = sublayer("attention_norm", *rest, x, lambda y: attention(y, choose(full, if_full, if_local), None))
        return sublayer("mlp_norm", *rest, x, MlpBlock(*rest, name="mlp")), None
