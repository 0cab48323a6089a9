"""The loss of a training step, method by method: a batch in, the loss and sums of metrics out.

A method's loss is a weighted sum of token cross entropies, `sum(weights * cross_entropy)`. A method differs
from another only in its weights (`*_weights`, `token_weights`), which need the token counts of the global batch
alone. So the loss is the same however the batch is packed, split into microbatches or sharded over devices.

An objective is called with the parameters, the batch (features of `data.records.to_features`, with the
weights of `token_weights` under `weights`) and the parameters of a teacher, where it has one. It returns the
loss and, per view, the sums that its metrics are means of: `<view>_cross_entropy`, `<view>_correct`,
`<view>_tokens`; those beyond cross entropy add `divergence` and `divergence_count`, what it is a mean over.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from distill_jax.data.views import TASK_IDS
from distill_jax.models import divergences
from distill_jax.models.encoder_decoder import output_kernel
from distill_jax.models.families import Network
from distill_jax.models.logits import project, token_log_probs, weighted_cross_entropy

Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]


def standard_weights() -> dict[str, float]:
    """Weights of fine-tuning and of task distillation: the mean over the label tokens."""
    return {"label": 1.0}


def step_by_step_weights(alpha: float = 0.5) -> dict[str, float]:
    """Weights of distilling step-by-step: `alpha` on the label mean, the rest on the rationale mean.

    Hsieh et al. 2023 (arXiv:2305.02301), eq. 4 and `TaskPrefixTrainer` of its reference code.
    """
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha must lie in [0, 1], got {alpha}")
    return {"label": alpha, "rationale": 1.0 - alpha}


def single_task_weights() -> dict[str, float]:
    """Weights of one target that holds rationale and label: the mean over its tokens."""
    return {"single_task": 1.0}


def token_weights(
    decoder_task_ids: jax.Array, decoder_loss_weights: jax.Array, view_weights: Mapping[str, float]
) -> jax.Array:
    """Distributes each view's weight evenly over that view's tokens in the batch: float32 [batch, length].

    Token `i` of view `v` gets `view_weights[v] * w_i / sum_{j in v} w_j`, so that the weighted sum of
    cross entropies is `sum_v view_weights[v] * mean_v(cross entropy)`: each view is a mean over its own
    tokens. A view without tokens in the batch adds nothing.

    Args:
      decoder_task_ids: int32 [batch, length], 0 is padding, else a value of `views.TASK_IDS`.
      decoder_loss_weights: float32 [batch, length], 0 where a token does not count.
      view_weights: of the views by name; a view that is not named has weight 0.
    """
    weights = jnp.zeros(decoder_loss_weights.shape, jnp.float32)
    for view, weight in view_weights.items():
        own = jnp.where(decoder_task_ids == TASK_IDS[view], decoder_loss_weights, 0.0)
        weights += weight * own / jnp.maximum(own.sum(), 1e-9)
    return weights


class Objective(Protocol):
    """What the train step asks of an objective."""

    needs_teacher = False

    def shares(self, batch: Batch) -> Batch:
        """Features [batch, ...] that need the whole batch, made before it is split; none by default."""
        return {}

    def __call__(
        self, params, *, model: Network, batch: Batch, key: jax.Array | None, teacher, loss_chunk, z_loss
    ) -> tuple[jax.Array, Metrics]:
        """The loss of a network and the sums of the metrics; `key` None turns dropout off."""
        ...


def decoder_states(params: Any, model: Network, batch: Batch, key: jax.Array | None):
    """Teacher forcing: scaled decoder states [batch * targets, embed] and the output kernel."""
    tokens = ("encoder_input_tokens", "decoder_input_tokens", "decoder_target_tokens")
    others = ("encoder_segment_ids", "decoder_segment_ids", "encoder_positions", "decoder_positions")
    ids = {name: batch.get(name) for name in (*others, "decoder_cross_segment_ids")}
    dropout = {"enable_dropout": key is not None, "rngs": None if key is None else {"dropout": key}}
    texts = [batch[name] for name in tokens]
    states = model.apply({"params": params}, *texts, **ids, **dropout, method="hidden")
    kernel, scale = output_kernel(params, model.config)
    return (states * scale).reshape(-1, states.shape[-1]), kernel


def _weighted_cross_entropy(model: Network, states, kernel, batch: Batch, loss_chunk: int, z_loss: float):
    """The weighted sum of token cross entropies, and the sums of the views' metrics."""
    tokens = [batch[name].reshape(-1) for name in ("decoder_target_tokens", "weights")]
    settings = (loss_chunk, z_loss, model.config.logits_cap)
    loss, cross_entropy, correct = weighted_cross_entropy(states, kernel, *tokens, *settings)
    task_ids, counted = (batch[name].reshape(-1) for name in ("decoder_task_ids", "decoder_loss_weights"))
    metrics = {}
    for view, task_id in TASK_IDS.items():
        own = jnp.where(task_ids == task_id, counted, 0.0)
        metrics[f"{view}_cross_entropy"] = jnp.sum(own * cross_entropy)
        metrics[f"{view}_correct"] = jnp.sum(own * correct)
        metrics[f"{view}_tokens"] = jnp.sum(own)
    return loss, metrics


@dataclasses.dataclass(frozen=True)
class CrossEntropy(Objective):
    """Weighted token cross entropy: standard, task distillation, step-by-step and the ablations."""

    def __call__(self, params, *, model, batch, key, teacher, loss_chunk, z_loss):
        states, kernel = decoder_states(params, model, batch, key)
        return _weighted_cross_entropy(model, states, kernel, batch, loss_chunk, z_loss)


@dataclasses.dataclass(frozen=True)
class SoftLabels(Objective):
    """Class probabilities of the teacher, mixed with the cross entropy of the reference label.

    `(1 - cross_entropy_weight) * KL + cross_entropy_weight * CE`: the KL of `divergences.class_divergence` over
    all labels a row can have, each scored by its log-probability under the student, as a mean over the
    examples; the cross entropy as a mean over the reference labels' tokens.
    """

    temperature: float = 1.0
    cross_entropy_weight: float = 0.5

    def shares(self, batch: Batch) -> Batch:
        """An example's share in the mean: 1 over their number, which is the sum of all probabilities."""
        first = batch["decoder_positions"] == 0
        examples = jnp.sum(jnp.where(first, batch["decoder_choice_probs"], 0.0))
        rows = batch["decoder_positions"].shape[0]
        return {"example_share": jnp.full(rows, 1.0 / jnp.maximum(jnp.round(examples), 1.0))}

    def __call__(self, params, *, model, batch, key, teacher, loss_chunk, z_loss):
        states, kernel = decoder_states(params, model, batch, key)
        loss, metrics = _weighted_cross_entropy(model, states, kernel, batch, loss_chunk, z_loss)
        segments = batch["decoder_segment_ids"]
        rows, length = segments.shape
        targets = batch["decoder_target_tokens"].reshape(-1)
        log_probs = token_log_probs(states, kernel, targets, loss_chunk, model.config.logits_cap)
        log_probs = log_probs.reshape(rows, length)
        # [batch, targets, classes]: a row holds at most as many labels as tokens.
        own = (segments[:, :, None] == jnp.arange(1, length + 1)).astype(jnp.float32)
        scores = jnp.einsum("bt,btc->bc", log_probs, own)
        first = own * (batch["decoder_positions"] == 0)[:, :, None]
        probs = jnp.einsum("bt,btc->bc", batch["decoder_choice_probs"], first)
        groups = jnp.einsum("bt,btc->bc", batch["decoder_cross_segment_ids"].astype(jnp.float32), first)
        divergence = divergences.class_divergence(scores, probs, groups.astype(jnp.int32), self.temperature)
        metrics |= {"divergence": divergence.sum(), "divergence_count": probs.sum()}
        mixed = (1.0 - self.cross_entropy_weight) * jnp.sum(batch["example_share"] * divergence)
        return mixed + self.cross_entropy_weight * loss, metrics


@dataclasses.dataclass(frozen=True)
class LogitDistillation(Objective):
    """The next-token distributions of a white-box teacher, mixed with cross entropy.

    `(1 - cross_entropy_weight) * D + cross_entropy_weight * CE`, both with the token weights of the views,
    `D` of `divergences.token_divergence`. The teacher runs beside the student, without dropout; or, where the
    batch has its stored next tokens (`training.stored_logits`), not at all.

    Attributes:
      teacher_model: has the student's vocabulary.
      kind: of `divergences.DIVERGENCES`; `beta` is of Jensen-Shannon.
    """

    teacher_model: Network | None = None
    kind: str = "forward_kl"
    temperature: float = 1.0
    beta: float = 0.5
    cross_entropy_weight: float = 0.5
    needs_teacher = True

    def __call__(self, params, *, model, batch, key, teacher, loss_chunk, z_loss):
        states, kernel = decoder_states(params, model, batch, key)
        loss, metrics = _weighted_cross_entropy(model, states, kernel, batch, loss_chunk, z_loss)
        options = {"kind": self.kind, "temperature": self.temperature, "beta": self.beta}
        kernels = []
        if "decoder_teacher_ids" in batch:
            divergence = partial(divergences.top_k_divergence, **options)
            features = (batch["decoder_teacher_ids"], batch["decoder_teacher_log_probs"])
            known = [x.reshape(-1, x.shape[-1]) for x in features]
        else:
            teacher_cap = self.teacher_model.config.logits_cap
            teacher_states, teacher_kernel = decoder_states(teacher, self.teacher_model, batch, None)
            shared = min(kernel.shape[1], teacher_kernel.shape[1])  # padding to 128 may differ
            kernel = kernel[:, :shared]
            known, kernels = [teacher_states], [teacher_kernel[:, :shared]]

            def divergence(logits, states, kernel):
                teacher_logits = project(states, kernel, teacher_cap)
                return divergences.token_divergence(logits, teacher_logits, **options)

        of_student = (states, kernel, batch["weights"].reshape(-1))
        divergence = divergences.weighted_divergence(
            *of_student, loss_chunk, divergence, known, kernels, model.config.logits_cap
        )
        metrics |= {"divergence": divergence, "divergence_count": jnp.sum(batch["weights"])}
        mixed = (1.0 - self.cross_entropy_weight) * divergence
        return mixed + self.cross_entropy_weight * loss, metrics
