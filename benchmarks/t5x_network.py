"""T5X's network and loss, with its package's `__init__` left out, which imports TensorFlow and SeqIO.

On an accelerator the step is `optax`'s, as ours; T5X's trainer adds logging to it, see `t5x_packed`.
"""

import functools
import importlib
import importlib.util
import pathlib
import sys
import types
from collections.abc import Sequence

from benchmarks.contestants import Contestant
from benchmarks.ours import Batches
from benchmarks.t5x_packed import clipped_adamw, fields_of
from distill_jax.models.config import T5Config

PACKAGES = ("t5x", "t5x.examples", "t5x.examples.t5")
LOSS = {"label_smoothing": 0.0, "z_loss": 1e-4, "loss_normalizing_factor": None}  # t5x.models' defaults


def _modules() -> tuple[types.ModuleType, types.ModuleType]:
    """T5X's modules of the network and of the loss, imported without their packages' `__init__`."""
    (folder,) = importlib.util.find_spec("t5x").submodule_search_locations
    for name in PACKAGES:
        package = types.ModuleType(name)
        package.__path__ = [str(pathlib.Path(folder, *name.split(".")[1:]))]
        sys.modules[name] = package
    return importlib.import_module("t5x.examples.t5.network"), importlib.import_module("t5x.losses")


def contestant(config: T5Config, batches: Batches, pairs: Sequence[float], described: dict) -> Contestant:
    """A step from random parameters: T5X's network and loss, clipping and AdamW by optax.

    Args:
      config: of the student; its layers are not scanned, as T5X's minimal network has none that are.
      batches: of `fabricated.packed`.
      pairs: in each of them.
      described: how they are packed, for the results.
    """
    import jax
    import optax

    network, losses = _modules()
    module = network.Transformer(network.T5Config(**fields_of(config)))
    tokens = jax.numpy.ones((1, 8), int)
    init = jax.jit(functools.partial(module.init, enable_dropout=False))
    params = init(jax.random.key(0), tokens, tokens, tokens)["params"]
    optimizer = clipped_adamw()

    def loss_of(params, batch):
        logits = module.apply(
            {"params": params},
            batch["encoder_input_tokens"],
            batch["decoder_input_tokens"],
            batch["decoder_target_tokens"],
            encoder_segment_ids=batch["encoder_segment_ids"],
            decoder_segment_ids=batch["decoder_segment_ids"],
            encoder_positions=batch["encoder_positions"],
            decoder_positions=batch["decoder_positions"],
            enable_dropout=False,
        )
        weights = batch["decoder_loss_weights"]
        loss, _, weight = losses.compute_weighted_cross_entropy(
            logits, targets=batch["decoder_target_tokens"], weights=weights, **LOSS
        )
        return loss / weight

    @functools.partial(jax.jit, donate_argnums=0)
    def train_step(state, batch):
        params, moments = state
        loss, grads = jax.value_and_grad(loss_of)(params, batch)
        updates, moments = optimizer.update(grads, moments, params)
        return (optax.apply_updates(params, updates), moments), loss

    state = (params, jax.jit(optimizer.init)(params))
    del params  # donated with the state
    batches = jax.device_put(list(batches))

    def step(number: int) -> float:
        nonlocal state
        state, loss = train_step(state, batches[number])
        return float(jax.block_until_ready((state, loss))[1])

    return Contestant(step, pairs, described | {"dtype": config.dtype, "optimizer": "adamw", "clip_norm": 1.0})
