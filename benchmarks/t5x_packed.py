"""T5X's network, loss and train step, on packed batches: those of its own packing, or ours, which are fuller.

The loss is T5X's, one sum over all tokens. Its trainer's step is taken as it is
(`t5x.trainer.train_with_lr`), jitted with the state donated, as T5X's partitioner does on one device.
"""

import importlib.util
from collections.abc import Sequence
from typing import Any

from benchmarks.contestants import LEARNING_RATE, Contestant
from benchmarks.ours import Batches
from distill_jax.models.config import T5Config

CONFIG_FIELDS = (
    "vocab_size",
    "dtype",
    "emb_dim",
    "num_heads",
    "num_encoder_layers",
    "num_decoder_layers",
    "head_dim",
    "mlp_dim",
    "mlp_activations",
    "dropout_rate",
    "logits_via_embedding",
)


def available() -> bool:
    """Whether T5X is installed; it is on no registry, see docs/t5x.md."""
    return importlib.util.find_spec("t5x") is not None


def fields_of(config: T5Config) -> dict[str, Any]:
    """The fields of `network.T5Config`."""
    return {name: getattr(config, name) for name in CONFIG_FIELDS}


def clipped_adamw():
    """optax's AdamW after clipping, with the settings of all contestants."""
    import optax

    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(LEARNING_RATE, b2=0.999, weight_decay=0.0))


def contestant(
    config: T5Config,
    params: Any,
    batches: Batches,
    pairs: Sequence[float],
    described: dict,
    optimizer: str = "adamw",
) -> Contestant:
    """T5X's step from these parameters, which are copied.

    Args:
      config: of the student.
      params: its parameters.
      batches: of `packings.packed` or `packings.packed_by_seqio`.
      pairs: in each of them.
      described: how they are packed, for the results.
      optimizer: adamw, as the others, or adafactor, T5X's own.
    """
    import functools

    import jax
    import seqio
    from flax.core import freeze
    from t5x import adafactor, models, optimizers, train_state, trainer
    from t5x.examples.t5 import network

    if optimizer == "adamw":
        optimizer_def = optimizers.OptaxWrapper(clipped_adamw())
    else:
        optimizer_def = adafactor.Adafactor(
            decay_rate=0.8, step_offset=0, logical_factor_rules=adafactor.standard_logical_factor_rules()
        )
    vocabulary = seqio.ByteVocabulary()  # only its special ids matter to the loss
    model = models.EncoderDecoderModel(
        module=network.Transformer(network.T5Config(**fields_of(config))),
        input_vocabulary=vocabulary,
        output_vocabulary=vocabulary,
        optimizer_def=optimizer_def,
    )
    params = freeze(jax.tree.map(jax.numpy.array, params))
    tokens = jax.numpy.ones((1, 8), int)
    init = functools.partial(model.module.init, enable_dropout=False)
    axes = jax.eval_shape(init, jax.random.key(0), tokens, tokens, tokens)["params_axes"]
    state = train_state.FlaxOptimTrainState.create(
        optimizer_def, freeze({"params": params, "params_axes": axes})
    )

    @functools.partial(jax.jit, donate_argnums=0)
    def train_step(state, batch, key):
        return trainer.train_with_lr(state, batch, LEARNING_RATE, key, model, None)

    batches = jax.device_put(list(batches))
    key = jax.random.key(0)

    def step(number: int) -> float:
        nonlocal state
        state, metrics = train_step(state, batches[number], key)
        loss = jax.block_until_ready((state, metrics))[1]["loss"]
        return float(loss.compute())

    return Contestant(step, pairs, described | {"dtype": config.dtype, "optimizer": optimizer})
