"""The families of students: what turns options into a network, and a network's config into JSON and back.

A family is one file of `models` with its config and network, and one file of `checkpoints.other_formats` with
the names of its parameters in the checkpoints of others.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from distill_jax.config import ModelOptions
from distill_jax.config.network import OF_A_RUN
from distill_jax.config.options import check
from distill_jax.errors import UserError
from distill_jax.models import llama, t5, t5gemma, t5gemma2, umt5
from distill_jax.models.config import ModelConfig, T5Config
from distill_jax.models.encoder_decoder import EncoderDecoder
from distill_jax.models.llama_config import LlamaConfig

Network = EncoderDecoder
FAMILIES: dict[str, tuple[type[ModelConfig], type[Network]]] = {
    config.family: (config, network)
    for config, network in (
        (T5Config, t5.Transformer),
        (umt5.UMT5Config, umt5.UMT5),
        (t5gemma.T5GemmaConfig, t5gemma.T5Gemma),
        (t5gemma2.T5Gemma2Config, t5gemma2.T5Gemma2),
        (LlamaConfig, llama.DecoderOnly),
    )
}


def make_config(fields: Mapping[str, Any]) -> ModelConfig:
    """The config of `ModelOptions.shape`, or of what `describe` wrote.

    `model_family` says whose, T5's where it is left out. None stands for the family's own default.

    Raises:
      UserError: for an unknown family, an option that the family does not have, and a value out of range.
    """
    fields = dict(fields)
    family = fields.pop("model_family", T5Config.family)
    if family not in FAMILIES:
        raise UserError(f"{ModelOptions.named('model_family')} {family!r} is none of {', '.join(FAMILIES)}")
    cls = FAMILIES[family][0]
    known = {field.name: field for field in dataclasses.fields(cls)}
    options = ModelOptions.options()
    for name, value in list(fields.items()):
        if name not in known:
            if name not in options or value != options[name].default:
                option = ModelOptions.named(name) if name in options else name
                raise UserError(f"{option} {value!r}: the family {family} has no such option")
            del fields[name]
        elif value is None and known[name].default is not dataclasses.MISSING:
            del fields[name]
    return cls(**fields)


def check_fields(fields: Mapping[str, Any]) -> ModelConfig:
    """As `make_config`, of fields that a file says: each has to be of its option's kind and in its range."""
    options = ModelOptions.options()
    values = {name: check(options[name], value) for name, value in fields.items() if name in options}
    if values.get("vocab_size") is None:
        raise UserError("model.vocab_size is missing")
    return make_config({**fields, **values})


def make_network(config: ModelConfig) -> Network:
    """The network of a config."""
    return FAMILIES[config.family][1](config)


def canonical(config: ModelConfig) -> dict[str, Any]:
    """What a network has in common with its checkpoint: fields of a config, equal if they mean the same."""
    fields = {name: value for name, value in dataclasses.asdict(config).items() if name not in OF_A_RUN}
    fields |= {"num_kv_heads": fields.get("num_kv_heads") or config.num_heads, "model_family": config.family}
    if "query_scalar" in fields:
        fields["query_scalar"] = float(config.query_scalar or config.head_dim)
    if "mlp_activations" in fields:
        fields["mlp_activations"] = ["silu" if x == "swish" else x for x in config.mlp_activations]
    return fields


def describe(config: ModelConfig) -> dict[str, Any]:
    """A config as JSON, for `make_config`; T5's goes without its family, as before there were others."""
    family = {} if config.family == T5Config.family else {"model_family": config.family}
    return family | dataclasses.asdict(config)
