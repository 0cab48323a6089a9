"""UMT5's parameters by their names in Hugging Face's folders, and its `config.json`: T5's but for the biases.

Of untied logits transformers 5 is off by the factor 1/sqrt(d_model): it takes every UMT5 for a tied one.
"""

import dataclasses
import pathlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from distill_jax.checkpoints.other_formats import t5_names
from distill_jax.checkpoints.other_formats.t5_names import EMBEDDING, HEAD, RENAMED, SKIPPED, copies
from distill_jax.models.umt5 import UMT5Config

__all__ = ["EMBEDDING", "HEAD", "RENAMED", "SKIPPED", "copies"]
MODEL_TYPES, CONFIG = ("umt5",), UMT5Config
UNUSED: tuple[str, ...] = ()


def names(config: UMT5Config) -> Iterator[tuple[str, str, bool]]:
    """(their name, our name, transposed) of every parameter."""
    yield from t5_names.kernels_and_norms(config)
    for stack, depth in (("encoder", config.num_encoder_layers), ("decoder", config.num_decoder_layers)):
        for n in range(depth):
            ours = f"{stack}/layers_{n}/relpos_bias/rel_embedding"
            yield f"{stack}.block.{n}.{t5_names.BIAS}", ours, True


def read_config(path: pathlib.Path, config: Mapping[str, Any], stored: Collection[str]) -> UMT5Config:
    """The model that `config.json` and the names of the tensors describe."""
    return UMT5Config(**dataclasses.asdict(t5_names.read_config(path, config, stored)))


def write_config(config: UMT5Config) -> dict[str, Any]:
    """`config.json`."""
    kind = {"architectures": ["UMT5ForConditionalGeneration"], "model_type": "umt5"}
    return t5_names.write_config(config) | kind
