"""The methods' losses as a `t5x.models.EncoderDecoderModel`."""

import copy
import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import clu.metrics
import jax
import jax.numpy as jnp
import optax
import seqio
from flax import linen as nn
from t5x import decoding, metrics, models
from t5x import optimizers as t5x_optimizers
from t5x.examples.t5 import network

from distill_jax.data.views import TASK_IDS
from distill_jax.errors import UserError
from distill_jax.models.t5 import Transformer
from distill_jax.t5x.feature_converter import ViewFeatureConverter
from distill_jax.t5x.network import NetworkStates
from distill_jax.t5x.seqio_tasks import own_vocabulary
from distill_jax.training.build import with_vocabulary_size
from distill_jax.training.initial import load_teacher
from distill_jax.training.losses import Batch, CrossEntropy, Objective, token_weights


class DistillationModel(models.EncoderDecoderModel):
    """T5X's encoder-decoder with the loss of a recipe: each view a mean over its own tokens.

    The means are over the global batch, so they are taken before T5X splits it into microbatches: by
    `trainer.with_view_means`, without which training is refused.

    Args:
      module: `distill_jax.models.t5.Transformer` or `t5x.examples.t5.network.Transformer`.
      input_vocabulary, output_vocabulary: of the task, one and the same; see `seqio_tasks.seqio_vocabulary`.
      optimizer_def: T5X's, or optax's as our engine takes it; None where nothing is trained.
      view_weights: weight of each view by name, of `training.losses`; None where nothing is trained.
      objective: of `training.losses`.
      teacher_checkpoint_path: of an objective with a white-box teacher.
      num_beams: 1 decodes greedily, as our engine does by default; more is T5X's beam search.
      loss_chunk: tokens whose logits are held at a time.
      z_loss: factor of `log(Z)**2` per token, in training.
      label_smoothing: must be 0.
      loss_normalizing_factor: must be None: the loss is normalised already.

    Raises:
      UserError: for settings that the loss has no place for, and another network.
    """

    FEATURE_CONVERTER_CLS = ViewFeatureConverter

    def __init__(
        self,
        module: nn.Module,
        input_vocabulary: seqio.Vocabulary,
        output_vocabulary: seqio.Vocabulary,
        optimizer_def: t5x_optimizers.OptimizerDef | optax.GradientTransformation | None = None,
        view_weights: Mapping[str, float] | None = None,
        objective: Objective = CrossEntropy(),
        teacher_checkpoint_path: str | None = None,
        num_beams: int = 1,
        loss_chunk: int = 2048,
        z_loss: float = 0.0,
        label_smoothing: float = 0.0,
        loss_normalizing_factor: float | str | None = None,
    ):
        if label_smoothing:
            raise UserError(f"LABEL_SMOOTHING must be 0.0, got {label_smoothing}")
        if loss_normalizing_factor is not None:
            raise UserError(
                f"LOSS_NORMALIZING_FACTOR must be None, got {loss_normalizing_factor!r}: each view's loss is "
                "a mean over its own tokens already"
            )
        if isinstance(module, Transformer):
            module = with_vocabulary_size(module, output_vocabulary)
            states = module
        elif isinstance(module, network.Transformer):
            states = NetworkStates(module)
        else:
            raise UserError(
                f"module {type(module).__module__}.{type(module).__name__}: expected "
                "distill_jax.models.t5.Transformer or t5x.examples.t5.network.Transformer"
            )
        if isinstance(optimizer_def, optax.GradientTransformation):
            optimizer_def = t5x_optimizers.OptaxWrapper(optimizer_def)
        super().__init__(
            module=module,
            input_vocabulary=input_vocabulary,
            output_vocabulary=output_vocabulary,
            optimizer_def=optimizer_def,
            decode_fn=_greedy if num_beams == 1 else decoding.beam_search,
            default_decoder_params=models.DecoderParams(num_decodes=num_beams),
            z_loss=z_loss,
        )
        self.teacher_params = None
        if view_weights is not None and objective.needs_teacher:
            vocabulary = own_vocabulary(output_vocabulary)
            teacher_model, self.teacher_params = load_teacher(teacher_checkpoint_path, vocabulary)
            objective = dataclasses.replace(objective, teacher_model=teacher_model)
        self.objective, self._states = objective, states
        self._view_weights, self._loss_chunk = view_weights, loss_chunk

    def with_teacher(self, params: Any) -> "DistillationModel":
        """The same model with other arrays for the teacher's parameters, such as a step's arguments."""
        model = copy.copy(self)
        model.teacher_params = params
        return model

    def get_initial_variables(
        self, rng: jax.Array, input_shapes: Mapping[str, Any], input_types: Mapping[str, Any] | None = None
    ):
        """As T5X's; tokens are int32, where T5X's evaluation says nothing."""
        types = dict.fromkeys(input_shapes, jnp.int32) | dict(input_types or {})
        return super().get_initial_variables(rng, input_shapes, types)

    def with_shares(self, batch: Batch) -> dict[str, jax.Array]:
        """Adds what the loss takes from the whole global batch, each feature [batch, ...].

        Raises:
          UserError: when there are no view weights, or the batch has no task ids.
        """
        if self._view_weights is None:
            raise UserError("no view weights: give the file of a method, such as t5x/step_by_step.gin")
        if "decoder_task_ids" not in batch:
            raise UserError(
                "the task has no feature targets_task_ids: register it with "
                "distill_jax.tasks.registry.register_distillation_task"
            )
        counted = batch["decoder_loss_weights"].astype(jnp.float32)
        batch = _with_segments(batch) | {"decoder_loss_weights": counted}
        weights = token_weights(batch["decoder_task_ids"], counted, self._view_weights)
        return batch | {"weights": weights, **self.objective.shares(batch)}

    def _loss(self, params: Any, batch: Batch, key: jax.Array | None, z_loss: float):
        options = {"teacher": self.teacher_params, "loss_chunk": self._loss_chunk, "z_loss": z_loss}
        loss, sums = self.objective(params, model=self._states, batch=batch, key=key, **options)
        return loss, _metrics(loss, sums, batch, self._view_weights)

    def loss_fn(self, params: Any, batch: Batch, dropout_rng: jax.Array | None):
        """Loss and metrics of a (micro)batch with the features of `with_shares`; a UserError without them."""
        if "weights" not in batch:
            raise UserError(
                "the views' means need the whole batch: train with trainer_cls = "
                "@distill_jax.t5x.trainer.with_view_means(), as t5x/finetune.gin does"
            )
        return self._loss(params, batch, dropout_rng, self._z_loss)

    def eval_fn(self, params: Any, batch: Batch):
        """Loss and metrics of a whole batch, without dropout and z-loss."""
        return self._loss(params, self.with_shares(batch), None, 0.0)


def _with_segments(batch: Batch) -> dict[str, jax.Array]:
    """Gives an unpacked batch the segment ids and positions of rows with one example."""
    batch = dict(batch)
    for side, tokens in (("encoder", "encoder_input_tokens"), ("decoder", "decoder_target_tokens")):
        there = batch[tokens] > 0
        batch.setdefault(f"{side}_segment_ids", there.astype(jnp.int32))
        batch.setdefault(f"{side}_positions", jnp.arange(there.shape[1]) * there)
    return batch


_greedy = partial(decoding.temperature_sample, temperature=0.0)


def _metrics(
    loss: jax.Array, sums: Mapping[str, jax.Array], batch: Batch, view_weights: Mapping[str, float]
) -> metrics.MetricsMap:
    """T5X's metrics by T5X's names, and per view `<view>_loss`, `<view>_token_accuracy`, `<view>_tokens`.

    A view without a token in the steps that are summed up has no mean: nan.
    """
    tokens, correct = (sum(sums[f"{view}_{name}"] for view in TASK_IDS) for name in ("tokens", "correct"))
    rows, length = batch["decoder_target_tokens"].shape
    out = {
        "loss": metrics.AveragePerStep(total=loss),
        "accuracy": _mean(correct, tokens),
        "timing/seqs_per_second": metrics.TimeRate.from_model_output(numerator=jnp.array(rows)),
        "timing/steps_per_second": metrics.StepsPerTime.from_model_output(),
        "timing/seconds": metrics.Time(),
        "timing/target_tokens_per_second": metrics.TimeRate.from_model_output(
            numerator=jnp.array(rows * length)
        ),
    }
    for view in view_weights:
        own = sums[f"{view}_tokens"]
        out[f"{view}_loss"] = _mean(sums[f"{view}_cross_entropy"], own)
        out[f"{view}_token_accuracy"] = _mean(sums[f"{view}_correct"], own)
        out[f"{view}_tokens"] = metrics.Sum(total=own)
    if "divergence" in sums:
        out["divergence"] = _mean(sums["divergence"], sums["divergence_count"])
    for side in ("encoder", "decoder"):
        segments = batch[f"{side}_segment_ids"]
        filled = jnp.sum(segments > 0).astype(jnp.float32)
        out[f"non_padding_fraction/{side}"] = _mean(filled, jnp.array(segments.size, jnp.float32))
    return out


def _mean(total: jax.Array, count: jax.Array) -> clu.metrics.Average:
    return clu.metrics.Average(total=total, count=count)
