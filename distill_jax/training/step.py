"""The jitted train and eval steps: a batch of features in, a new state and sums of metrics out."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from distill_jax.data.views import TASK_IDS
from distill_jax.models.lora import Lora
from distill_jax.training.losses import Batch, CrossEntropy, Metrics, Objective, token_weights
from distill_jax.training.train_state import TrainState

CHECKED_SIZE = 1 << 16  # elements of the arrays whose update is read before it is made


def _split(batch: Batch, microbatches: int) -> Batch:
    """[batch, length] -> [microbatches, batch / microbatches, length]; rows dealt out in turn.

    Dealing in turn keeps every microbatch spread over all the devices the batch is sharded over.
    """
    return {name: x.reshape(-1, microbatches, *x.shape[1:]).swapaxes(0, 1) for name, x in batch.items()}


def _with_shares(batch: Batch, objective: Objective, view_weights: Mapping[str, float]) -> Batch:
    """Adds what the loss takes from the whole batch."""
    weights = token_weights(batch["decoder_task_ids"], batch["decoder_loss_weights"], view_weights)
    return {**batch, "weights": weights, **objective.shares(batch)}


def make_train_step(
    model,
    optimizer: optax.GradientTransformation,
    view_weights: Mapping[str, float],
    *,
    objective: Objective = CrossEntropy(),
    seed: int = 0,
    microbatches: int = 1,
    loss_chunk: int = 2048,
    z_loss: float = 0.0,
    shardings: TrainState | None = None,
    lora: Lora | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Builds the jitted step `(state, batch, teacher=None, base=None) -> (state, metrics)`; donates the state.

    The token weights come from the whole batch before it is split, so `microbatches` changes memory,
    not the loss. Dropout depends on (`seed`, step) alone: a resumed run repeats the undisturbed one.

    Where the loss, a gradient or an updated parameter is not finite, the parameters and the optimizer's state
    stay as they were, and the metric `skipped` is 1.

    With `lora` the state's parameters are adapters, and `base` has the parameters of the model, which stay.

    With `shardings`, of the state, the step is to be called under `Partitioner.active`.
    """

    def loss(params, base, **rest):
        params = params if lora is None else lora.combine(base, params)
        return objective(params, model=model, loss_chunk=loss_chunk, z_loss=z_loss, **rest)

    # Of parts of a batch it is traced twice, for their shapes and for their sum: jit remembers the first.
    loss_and_grad = jax.jit(jax.value_and_grad(loss, has_aux=True), inline=True)
    optimizer = optax.with_extra_args_support(optimizer)  # the norm of the gradients, to those that clip by it
    placed = {} if shardings is None else {"out_shardings": (shardings, shardings.step)}

    @partial(jax.jit, donate_argnums=0, **placed)
    def train_step(
        state: TrainState, batch: Batch, teacher: Any = None, base: Any = None
    ) -> tuple[TrainState, Metrics]:
        has_dropout = model.config.dropout_rate > 0.0
        key = jax.random.fold_in(jax.random.key(seed), state.step) if has_dropout else None
        batch = _with_shares(batch, objective, view_weights)
        if microbatches == 1:
            (loss, metrics), grads = loss_and_grad(state.params, base, batch=batch, key=key, teacher=teacher)
        else:

            def accumulate(total, xs):
                index, rows = xs
                own_key = None if key is None else jax.random.fold_in(key, index)
                part = loss_and_grad(state.params, base, batch=rows, key=own_key, teacher=teacher)
                return jax.tree.map(jnp.add, total, part), None

            parts = _split(batch, microbatches)
            first = jax.tree.map(lambda x: x[0], parts)
            of_part = partial(loss_and_grad, key=key, teacher=teacher)
            shapes = jax.eval_shape(of_part, state.params, base, batch=first)
            zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
            if shardings is not None:
                place = jax.lax.with_sharding_constraint
                zeros = (zeros[0], jax.tree.map(place, zeros[1], shardings.params))
            ((loss, metrics), grads), _ = jax.lax.scan(accumulate, zeros, (jnp.arange(microbatches), parts))
        grad_norm = optax.global_norm(grads)

        def update(params, opt_state):
            updates, opt_state = optimizer.update(grads, opt_state, params, grad_norm=grad_norm)
            return optax.apply_updates(params, updates), opt_state

        # The update is computed twice, to be read before it is made: keeping it until it is known to be finite
        # would take a second copy of the parameters and of the optimizer's state. With finite gradients it is
        # a factor of all arrays that is not (rate, bias correction, clipping), so reading the small ones does,
        # and costs nothing: of the large ones XLA leaves the first computation out.
        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        updated = sorted(jax.tree.leaves(update(state.params, state.opt_state)[0]), key=lambda x: x.size)
        for parameter in [updated[0], *(x for x in updated[1:] if x.size <= CHECKED_SIZE)]:
            finite &= jnp.isfinite(parameter).all()
        params, opt_state = jax.lax.cond(
            finite, update, lambda *unchanged: unchanged, state.params, state.opt_state
        )
        metrics |= {"loss": loss, "grad_norm": grad_norm, "skipped": 1.0 - finite}
        return TrainState(state.step + 1, params, opt_state), metrics

    return train_step


def make_eval_step(
    model,
    view_weights: Mapping[str, float],
    *,
    objective: Objective = CrossEntropy(),
    loss_chunk: int = 2048,
) -> Callable[..., Metrics]:
    """Builds the jitted `(params, batch, teacher=None) -> metrics`: as the train step's, without dropout."""

    @jax.jit
    def eval_step(params, batch: Batch, teacher: Any = None) -> Metrics:
        batch = _with_shares(batch, objective, view_weights)
        options = {"teacher": teacher, "loss_chunk": loss_chunk, "z_loss": 0.0}
        loss, metrics = objective(params, model=model, batch=batch, key=None, **options)
        return metrics | {"loss": loss}

    return eval_step


def means(metrics: Mapping[str, float]) -> dict[str, float]:
    """Sums over one or more batches -> means per view: `<view>_loss` and `<view>_token_accuracy`.

    Of the view `text` also `text_perplexity`.
    """
    out = {}
    for view in TASK_IDS:
        tokens = float(metrics.get(f"{view}_tokens", 0.0))
        if tokens:
            out[f"{view}_loss"] = float(metrics[f"{view}_cross_entropy"]) / tokens
            out[f"{view}_token_accuracy"] = float(metrics[f"{view}_correct"]) / tokens
    if "text_loss" in out:
        out["text_perplexity"] = math.exp(min(out["text_loss"], 700.0))  # of larger ones is no float
    if metrics.get("divergence_count"):
        out["divergence"] = float(metrics["divergence"]) / float(metrics["divergence_count"])
    return out
