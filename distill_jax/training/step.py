"""The jitted train and eval steps: a batch of features in, a new state and sums of metrics out."""

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import optax

from distill_jax.data.views import TASK_IDS
from distill_jax.losses import token_weights, weighted_cross_entropy
from distill_jax.models.t5 import output_kernel
from distill_jax.training.train_state import TrainState

Batch = Mapping[str, jax.Array]  # features of data.records.to_features, each [batch, length]
Metrics = dict[str, jax.Array]


def batch_loss(
    params,
    model,
    batch: Batch,
    weights: jax.Array,
    dropout_key: jax.Array | None,
    *,
    loss_chunk: int,
    z_loss: float,
) -> tuple[jax.Array, Metrics]:
    """Weighted cross entropy of a batch by teacher forcing.

    Args:
      params: the model's parameters.
      model: a `models.t5.Transformer`.
      batch: features, each [batch, length].
      weights: float32 [batch, length], of `losses.token_weights`.
      dropout_key: None turns dropout off.
      loss_chunk: tokens whose logits are held at a time.
      z_loss: factor of `log(Z)**2` per token.

    Returns:
      The loss, and per view the sums that its metrics are means of: `<view>_cross_entropy`,
      `<view>_correct`, `<view>_tokens`.
    """
    states = model.apply(
        {"params": params},
        batch["encoder_input_tokens"],
        batch["decoder_input_tokens"],
        batch["decoder_target_tokens"],
        encoder_segment_ids=batch["encoder_segment_ids"],
        decoder_segment_ids=batch["decoder_segment_ids"],
        encoder_positions=batch["encoder_positions"],
        decoder_positions=batch["decoder_positions"],
        enable_dropout=dropout_key is not None,
        rngs=None if dropout_key is None else {"dropout": dropout_key},
        method="hidden",
    )
    targets = batch["decoder_target_tokens"].reshape(-1)
    kernel, scale = output_kernel(params, model.config)
    loss, cross_entropy, correct = weighted_cross_entropy(
        (states * scale).reshape(targets.shape[0], -1),
        kernel,
        targets,
        weights.reshape(-1),
        loss_chunk,
        z_loss,
    )
    task_ids = batch["decoder_task_ids"].reshape(-1)
    counted = batch["decoder_loss_weights"].reshape(-1)
    metrics = {}
    for view, task_id in TASK_IDS.items():
        own = jnp.where(task_ids == task_id, counted, 0.0)
        metrics[f"{view}_cross_entropy"] = jnp.sum(own * cross_entropy)
        metrics[f"{view}_correct"] = jnp.sum(own * correct)
        metrics[f"{view}_tokens"] = jnp.sum(own)
    return loss, metrics


def _split(batch: Batch, microbatches: int) -> Batch:
    """[batch, length] -> [microbatches, batch / microbatches, length]; rows dealt out in turn.

    Dealing in turn keeps every microbatch spread over all the devices the batch is sharded over.
    """
    return {name: x.reshape(-1, microbatches, *x.shape[1:]).swapaxes(0, 1) for name, x in batch.items()}


def make_train_step(
    model,
    optimizer: optax.GradientTransformation,
    view_weights: Mapping[str, float],
    *,
    seed: int = 0,
    microbatches: int = 1,
    loss_chunk: int = 2048,
    z_loss: float = 0.0,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Builds the jitted step `(state, batch) -> (state, metrics)`; the given state is donated.

    The token weights come from the whole batch before it is split, so `microbatches` changes memory,
    not the loss. Dropout depends on (`seed`, step) alone: a resumed run repeats the undisturbed one.
    """
    loss_and_grad = jax.value_and_grad(partial(batch_loss, loss_chunk=loss_chunk, z_loss=z_loss), has_aux=True)

    @partial(jax.jit, donate_argnums=0)
    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = None
        if model.config.dropout_rate > 0.0:
            key = jax.random.fold_in(jax.random.key(seed), state.step)
        weights = token_weights(batch["decoder_task_ids"], batch["decoder_loss_weights"], view_weights)
        if microbatches == 1:
            (loss, metrics), grads = loss_and_grad(state.params, model, batch, weights, key)
        else:

            def accumulate(total, xs):
                index, rows = xs
                own_key = None if key is None else jax.random.fold_in(key, index)
                row_weights = rows.pop("weights")
                part = loss_and_grad(state.params, model, rows, row_weights, own_key)
                return jax.tree.map(jnp.add, total, part), None

            parts = _split({**batch, "weights": weights}, microbatches)
            first = jax.tree.map(lambda x: x[0], parts)
            zeros = jax.tree.map(
                lambda x: jnp.zeros(x.shape, x.dtype),
                jax.eval_shape(
                    lambda rows, w: loss_and_grad(state.params, model, rows, w, key),
                    {k: v for k, v in first.items() if k != "weights"},
                    first["weights"],
                ),
            )
            ((loss, metrics), grads), _ = jax.lax.scan(accumulate, zeros, (jnp.arange(microbatches), parts))
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics |= {"loss": loss, "grad_norm": optax.global_norm(grads)}
        return TrainState(state.step + 1, params, opt_state), metrics

    return train_step


def make_eval_step(
    model, view_weights: Mapping[str, float], *, loss_chunk: int = 2048
) -> Callable[..., Metrics]:
    """Builds the jitted `(params, batch) -> metrics`: as the train step's, without dropout."""

    @jax.jit
    def eval_step(params, batch: Batch) -> Metrics:
        weights = token_weights(batch["decoder_task_ids"], batch["decoder_loss_weights"], view_weights)
        loss, metrics = batch_loss(params, model, batch, weights, None, loss_chunk=loss_chunk, z_loss=0.0)
        return metrics | {"loss": loss}

    return eval_step


def means(metrics: Mapping[str, float]) -> dict[str, float]:
    """Sums over one or more batches -> means per view: `<view>_loss` and `<view>_token_accuracy`."""
    out = {}
    for view in TASK_IDS:
        tokens = float(metrics[f"{view}_tokens"])
        if tokens:
            out[f"{view}_loss"] = float(metrics[f"{view}_cross_entropy"]) / tokens
            out[f"{view}_token_accuracy"] = float(metrics[f"{view}_correct"]) / tokens
    return out
