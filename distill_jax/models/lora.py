"""Low-rank adapters of kernels (LoRA: Hu et al. 2021, arXiv:2106.09685), for all families.

A kernel W [in, out] that is adapted acts as `W + (alpha / rank) A B`, with A [in, rank] and B [rank, out]; only
these are trained. `layers.Projection`, through which all kernels of layers go, adds `(x A) B` where the tree
of its parameters has both. Merging the kernels in the loss instead would take a second copy of them and
gradients of their size: here the base costs its own bytes alone.
"""

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from distill_jax.config import TrainConfig
from distill_jax.errors import UserError

_TARGETS = TrainConfig.named("lora_targets")
A, B = "lora_a", "lora_b"  # beside `kernel`
NAMED = {"attention": r"attention/(query|key|value|out)/kernel$", "mlp": r"mlp/(wi|wi_0|wi_1|wo)/kernel$"}
_KERNEL = re.compile(r"^(encoder|decoder)/layers(_\d+)?/.+/kernel$")


@dataclasses.dataclass(frozen=True)
class Lora:
    """Which kernels have an adapter, and of what size.

    Attributes:
      rank: of the adapters.
      alpha: of the factor `alpha / rank`, which is peft's.
      targets: names of `NAMED`, or regular expressions that a kernel's name has a match of, such as
        `decoder/layers_0/self_attention/query/kernel`; with scanned layers `decoder/layers/...`.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...]

    @property
    def scale(self) -> float:
        """Factor of `A B`."""
        return self.alpha / self.rank

    def kernels(self, names: Collection[str]) -> list[str]:
        """Of the names of a model's parameters those of the kernels with an adapter, sorted.

        Raises:
          UserError: for a target that is no regular expression, or that no kernel of a layer matches.
        """
        kernels = sorted(name for name in names if _KERNEL.match(name))
        chosen: set[str] = set()
        for target in self.targets:
            try:
                pattern = re.compile(NAMED.get(target, target))
            except re.error as error:
                raise UserError(f"{_TARGETS} {target!r}: no regular expression: {error}") from None
            found = {name for name in kernels if pattern.search(name)}
            if not found:
                there = f"{kernels[0]} to {kernels[-1]}" if kernels else "none"
                raise UserError(
                    f"{_TARGETS} {target!r}: no kernel of a layer has such a name: expected "
                    f"{', '.join(NAMED)} or a regular expression; there are {there}"
                )
            chosen |= found
        return sorted(chosen)

    def init(self, params: Any, seed: int) -> Any:
        """Adapters of a tree of parameters, or of their shapes, that change nothing: B is 0.

        A is uniform within 1 / sqrt(in), as peft's. Kernels of scanned layers, [layers, in, out], have an
        adapter in each layer.
        """
        flat = _flat(params)
        adapters = {}
        for number, name in enumerate(self.kernels(flat)):
            *layers, inner, outer = flat[name].shape
            key, bound = jax.random.fold_in(jax.random.key(seed), number), inner**-0.5
            shape = (*layers, inner, self.rank)
            adapters[_beside(name, A)] = jax.random.uniform(key, shape, jnp.float32, -bound, bound)
            adapters[_beside(name, B)] = jnp.zeros((*layers, self.rank, outer), jnp.float32)
        return _nested(adapters)

    def combine(self, base: Any, adapters: Any) -> Any:
        """The parameters of the network with its adapters, for `Projection`; differentiable in both."""
        flat = _flat(adapters)
        scaled = {name: x * self.scale if name.endswith(B) else x for name, x in flat.items()}
        return _nested({**_flat(base), **scaled})

    def merge(self, base: Any, adapters: Any) -> Any:
        """The parameters of the network without adapters that computes the same; `jnp` or numpy arrays."""
        flat, parts = dict(_flat(base)), _flat(adapters)
        for name in list(flat):
            if (down := _beside(name, A)) in parts:
                flat[name] = merged(flat[name], parts[down], parts[_beside(name, B)], self.scale)
        return _nested(flat)

    def axes(self, axes: Mapping[str, Any], spec: Callable[..., Any]) -> Any:
        """The logical axes of the adapters from those of all parameters; the rank has none."""
        flat = _flat(axes)
        named = {}
        for name in self.kernels(flat):
            *layers, inner, outer = flat[name]
            named[_beside(name, A)] = spec(*layers, inner, None)
            named[_beside(name, B)] = spec(*layers, None, outer)
        return _nested(named)


def merged(kernel: Any, down: Any, up: Any, scale: float) -> Any:
    """`W + scale A B` of [.., in, out], [.., in, rank] and [.., rank, out], in float32."""
    product = down @ up if not isinstance(down, jax.Array) else jnp.matmul(down, up, precision="highest")
    return kernel + scale * product


def _beside(kernel: str, name: str) -> str:
    return f"{kernel.rpartition('/')[0]}/{name}"


def _flat(tree: Any) -> dict[str, Any]:
    return traverse_util.flatten_dict(tree, sep="/")


def _nested(flat: Mapping[str, Any]) -> Any:
    return traverse_util.unflatten_dict(flat, sep="/")
