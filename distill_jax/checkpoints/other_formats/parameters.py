"""The parameters of a checkpoint, read one at a time.

What every format is read into and written from: a mapping from our flat names, one per layer
(`encoder/layers_0/mlp/wi/kernel`), to `Parameter`s. Only the parameter that is being read is held in memory.
"""

import dataclasses
import functools
import hashlib
import re
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from distill_jax.errors import UserError, words_of
from distill_jax.models import lora
from distill_jax.models.config import ModelConfig, T5Config
from distill_jax.models.families import make_network

_LAYER = re.compile(r"^(encoder|decoder)/layers_(\d+)/(.+)$")
_STACKED = re.compile(r"^(encoder|decoder)/layers/(.+)$")


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A parameter on the disk; `fetch` reads `parameter[index]`, or raises UserError, naming the parameter."""

    shape: tuple[int, ...]
    fetch: Callable[[Any], np.ndarray]

    def read(self, index: Any = ...) -> np.ndarray:
        """The parameter, float32 of `shape`, or its part at `index`."""
        return np.asarray(self.fetch(index), np.float32)

    def layer(self, n: int) -> "Parameter":
        """Entry `n` of the first axis."""
        return Parameter(self.shape[1:], lambda index: self.fetch(n if index is ... else (n, *index)))

    def pieces(self) -> Iterator[tuple[Any, np.ndarray]]:
        """(index, float32 array) of what makes up the parameter."""
        yield ..., self.read()


@dataclasses.dataclass(frozen=True)
class Stacked:
    """The parameters of all layers as one with a leading axis, as `nn.scan` has them; read layer by layer."""

    layers: tuple[Parameter, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """`[layers, ...]`."""
        return (len(self.layers), *self.layers[0].shape)

    def read(self, index: tuple[slice, ...] = (slice(None),)) -> np.ndarray:
        """The parameter, float32 of `shape`, or its part at `index`."""
        return np.stack([layer.read(index[1:] or ...) for layer in self.layers[index[0]]])

    def pieces(self) -> Iterator[tuple[Any, np.ndarray]]:
        """(layer, float32 array) of each layer."""
        for n, layer in enumerate(self.layers):
            yield n, layer.read()


Parameters = Mapping[str, Parameter]


def unstack(parameters: Parameters) -> Parameters:
    """`encoder/layers/x` [n, ...] -> `encoder/layers_0/x` … [...], each of which reads only its slice."""
    unstacked = {}
    for name, parameter in parameters.items():
        if match := _STACKED.match(name):
            for n in range(parameter.shape[0] if parameter.shape else 0):
                unstacked[f"{match[1]}/layers_{n}/{match[2]}"] = parameter.layer(n)
        else:
            unstacked[name] = parameter
    return unstacked


def stack(parameters: Parameters) -> Mapping[str, Parameter | Stacked]:
    """`encoder/layers_0/x` … [...] -> `encoder/layers/x` [n, ...]."""
    stacked, groups = {}, {}
    for name, parameter in parameters.items():
        if match := _LAYER.match(name):
            groups.setdefault(f"{match[1]}/layers/{match[3]}", {})[int(match[2])] = parameter
        else:
            stacked[name] = parameter
    return stacked | {k: Stacked(tuple(layers[n] for n in range(len(layers)))) for k, layers in groups.items()}


def from_tree(params: Any) -> Parameters:
    """The parameters of a model in memory, with separate or stacked layers, as one per layer."""
    flat = traverse_util.flatten_dict(params, sep="/")
    return unstack({k: Parameter(tuple(x.shape), lambda index, x=x: x[index]) for k, x in flat.items()})


def to_tree(parameters: Parameters, scan_layers: bool = False) -> Any:
    """Reads everything: a tree of float32 numpy arrays, with separate layers or stacked by `nn.scan`."""
    arrays = {}
    for name, parameter in (stack(parameters) if scan_layers else parameters).items():
        arrays[name] = np.empty(parameter.shape, np.float32)
        for index, piece in parameter.pieces():
            arrays[name][index] = piece
    return traverse_util.unflatten_dict(arrays, sep="/")


def to_arrays(parameters: Parameters, scan_layers: bool = False, shardings: Any = None) -> Any:
    """As `to_tree`, on the devices, one parameter after the other: a tree of float32 `jax.Array`s.

    With `shardings`, a tree of the same structure, a host reads only what its devices hold; without, all is on
    the first device.
    """
    placed = traverse_util.flatten_dict(shardings or {}, sep="/")
    arrays = {}
    for name, parameter in (stack(parameters) if scan_layers else parameters).items():
        if name in placed:
            arrays[name] = _sharded(parameter, placed[name])
        else:
            arrays[name] = jnp.asarray(parameter.read())
    return traverse_util.unflatten_dict(arrays, sep="/")


def _sharded(parameter: Parameter | Stacked, sharding: jax.sharding.Sharding) -> jax.Array:
    parts: dict[str, np.ndarray] = {}  # devices that hold the same part share it

    def part(index: tuple[slice, ...]) -> np.ndarray:
        if str(index) not in parts:
            parts[str(index)] = parameter.read(index)
        return parts[str(index)]

    return jax.make_array_from_callback(parameter.shape, sharding, part)


def fingerprint(parameters: Parameters) -> str:
    """16 hex digits that tell the values of a model's parameters from others; reads all of them.

    It is the same in every format that keeps float32 values, and with scanned layers.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted(parameters):
        array = np.ascontiguousarray(parameters[name].read())
        digest.update(f"{name} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def with_adapters(base: Parameters, adapters: Parameters, scale: float) -> Parameters:
    """The parameters of a base with adapters (`models.lora`) merged into its kernels, read one at a time."""

    def adapted(kernel: Parameter, down: Parameter, up: Parameter) -> Parameter:
        whole = lambda: lora.merged(kernel.read(), down.read(), up.read(), scale)  # noqa: E731
        return Parameter(kernel.shape, lambda index: whole()[index])

    parameters = {}
    for name, parameter in base.items():
        place = name.removesuffix("kernel")
        beside = [adapters.get(place + part) for part in (lora.A, lora.B)]
        parameters[name] = parameter if None in beside else adapted(parameter, *beside)
    return parameters


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter of a model, one per layer."""
    shapes = {}
    for name, shape in stacked_shapes(config).items():
        match = _STACKED.match(name)
        names = [f"{match[1]}/layers_{n}/{match[2]}" for n in range(shape[0])] if match else [name]
        shapes |= dict.fromkeys(names, shape[1:] if match else shape)
    return shapes


@functools.lru_cache(maxsize=8)
def stacked_shapes(config: ModelConfig) -> Mapping[str, tuple[int, ...]]:
    """Name -> shape of every parameter of a model with scanned layers: one layer is traced, once a config."""
    tokens = jax.ShapeDtypeStruct((1, 8), np.int32)
    model = make_network(dataclasses.replace(config, scan_layers=True))
    params = jax.eval_shape(
        lambda key, t: model.init(key, t, t, t, enable_dropout=False)["params"], jax.random.key(0), tokens
    )
    shapes = {name: x.shape for name, x in traverse_util.flatten_dict(params, sep="/").items()}
    return types.MappingProxyType(shapes)


def check(
    where: str, parameters: Parameters, config: ModelConfig, source: str, file_names: Mapping[str, str] = {}
) -> None:
    """Compares the checkpoint `where` with the model that `source` (such as "config.json") describes.

    Nothing is read. `file_names` has the checkpoint's own name of ours, where they differ.

    Raises:
      UserError: naming the first parameter that is missing, has another shape or is unknown, and both shapes.
    """

    def named(name: str) -> str:
        theirs = file_names.get(name)
        return f"{name} ({theirs} there)" if theirs else name

    try:
        expected = expected_shapes(config)
    except (ArithmeticError, TypeError, ValueError) as error:  # sizes that no array or layer can have
        raise UserError(f"{where}: {source} has sizes of no network: {words_of(error)[:200]}") from error
    for name, shape in expected.items():
        if name not in parameters:
            raise UserError(
                f"{where}: no parameter {named(name)}: {source} asks for one of shape {list(shape)}, the "
                "checkpoint is of another architecture or not whole"
            )
        stored = parameters[name].shape
        if tuple(stored) != tuple(shape):
            difference = f"has shape {list(stored)}, {source} asks for {list(shape)}"
            raise UserError(f"{where}: parameter {named(name)} {difference}")
    for name in sorted(set(parameters) - set(expected)):
        raise UserError(
            f"{where}: parameter {named(name)} of shape {list(parameters[name].shape)} is unknown to {source}, "
            "which has no such parameter"
        )


def infer_config(
    where: str, parameters: Parameters, mlp_activations: tuple[str, ...] | None = None
) -> T5Config:
    """The T5 that the checkpoint `where` holds, which has no description, from names and shapes.

    Shapes do not tell the activations: by default ReLU, or GELU where the feed-forward is gated. Raises
    UserError when a parameter that tells is missing or has the wrong rank.
    """

    def shape(name: str, rank: int = 2) -> tuple[int, ...]:
        if name not in parameters:
            raise UserError(f"{where}: no parameter {name}: not a T5 encoder-decoder, or not whole")
        sides = tuple(parameters[name].shape)
        if len(sides) != rank:
            raise UserError(f"{where}: parameter {name} has shape {list(sides)}, expected {rank} axes")
        return sides

    def depth(stack: str) -> int:
        numbers = {int(m[2]) for m in map(_LAYER.match, parameters) if m and m[1] == stack}
        return max(numbers, default=-1) + 1

    vocab_size, emb_dim = shape("token_embedder/embedding")
    num_heads, _ = shape("encoder/relpos_bias/rel_embedding")
    _, joined = shape("encoder/layers_0/attention/query/kernel")
    if joined % num_heads:
        raise UserError(
            f"{where}: parameter encoder/layers_0/attention/query/kernel has {joined} columns, which the "
            f"{num_heads} heads of encoder/relpos_bias/rel_embedding do not divide"
        )
    gated = "encoder/layers_0/mlp/wi_0/kernel" in parameters
    activations = mlp_activations or (("gelu", "linear") if gated else ("relu",))
    if (len(activations) > 1) != gated:
        raise UserError(
            f"{where}: the feed-forward of the checkpoint is {'gated' if gated else 'not gated'}, which "
            f"does not go with the activations {', '.join(activations)}"
        )
    return T5Config(
        vocab_size=vocab_size,
        emb_dim=emb_dim,
        num_heads=num_heads,
        num_encoder_layers=depth("encoder"),
        num_decoder_layers=depth("decoder"),
        head_dim=joined // num_heads,
        mlp_dim=shape(f"encoder/layers_0/mlp/{'wi_0' if gated else 'wi'}/kernel")[1],
        mlp_activations=activations,
        logits_via_embedding="decoder/logits_dense/kernel" not in parameters,
    )
