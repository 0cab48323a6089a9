"""The weights of tokens by hand, and the losses beyond cross entropy, computed example by example too."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_jax.data.records import Segment, to_features
from distill_jax.models import divergences
from distill_jax.models.config import T5Config
from distill_jax.models.t5 import Transformer
from distill_jax.training import losses, optimizers, train_state
from distill_jax.training.losses import LogitDistillation, SoftLabels
from distill_jax.training.step import make_train_step

LABEL, RATIONALE = 1, 2
LENGTHS = {"inputs": 24, "targets": 20}


def test_token_weights_by_hand():
    task_ids = jnp.array([[LABEL, LABEL, RATIONALE, 0], [RATIONALE, RATIONALE, RATIONALE, 0]])
    counted = jnp.array([[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]])
    weights = losses.token_weights(task_ids, counted, losses.step_by_step_weights(0.6))
    np.testing.assert_allclose(weights, [[0.3, 0.3, 0.1, 0.0], [0.1, 0.1, 0.1, 0.0]], rtol=1e-6)


def test_token_weights_ignore_views_that_are_not_weighed_or_not_there():
    task_ids = jnp.array([[LABEL, RATIONALE]])
    weights = losses.token_weights(task_ids, jnp.ones((1, 2)), losses.standard_weights())
    np.testing.assert_allclose(weights, [[1.0, 0.0]])
    only_label = losses.token_weights(
        jnp.array([[LABEL, 0]]), jnp.array([[1.0, 0.0]]), losses.step_by_step_weights(0.5)
    )
    np.testing.assert_allclose(only_label, [[0.5, 0.0]])


@pytest.mark.parametrize("alpha", [-0.1, 1.1])
def test_alpha_outside_the_unit_interval_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha"):
        losses.step_by_step_weights(alpha)


@functools.cache
def student(seed=0, **changes):
    fields = {"num_encoder_layers": 1, "num_decoder_layers": 1, "emb_dim": 16, "dropout_rate": 0.0} | changes
    model = Transformer(T5Config(vocab_size=40, num_heads=2, head_dim=8, mlp_dim=32, **fields))
    return model, train_state.init_params(model, seed)


def soft_segments():
    """Three examples of 2 or 3 labels of 1 to 3 tokens; the second one's gold label is not known."""
    rng = np.random.default_rng(0)
    out = []
    for example, (sizes, probs, gold) in enumerate(
        [((2, 2), (0.7, 0.3), 1), ((3, 1, 2), (0.2, 0.0, 0.8), -1), ((1, 2), (1.0, 0.0), 0)]
    ):
        inputs = [*rng.integers(3, 40, 4 + example).tolist(), 1]
        targets = [t for size in sizes for t in [*rng.integers(3, 40, size).tolist(), 1]]
        choices = [size + 1 for size in sizes]
        out.append(Segment(inputs, targets, 1, example, choices, np.float32(probs), gold))
    return out


def stack(rows, **options):
    features = [to_features(row, LENGTHS, **options) for row in rows]
    return {name: jnp.stack([f[name] for f in features]) for name in features[0]}


def with_weights(objective, batch, view_weights):
    weights = losses.token_weights(batch["decoder_task_ids"], batch["decoder_loss_weights"], view_weights)
    return {**batch, "weights": weights, **objective.shares(batch)}


def loss_of(objective, model, params, batch, view_weights, teacher=None):
    @jax.jit
    def loss(params, batch, teacher):
        batch = with_weights(objective, batch, view_weights)
        return objective(params, model=model, batch=batch, key=None, teacher=teacher, loss_chunk=7, z_loss=0.0)

    return loss(params, batch, teacher)


def log_probs_of(model, params, pairs):
    """Next-token log-probabilities [pairs, targets, vocab] of (inputs, targets) pairs, a pair a row."""
    inputs, targets = (np.zeros((len(pairs), LENGTHS[name]), np.int32) for name in ("inputs", "targets"))
    for row, (source, target) in enumerate(pairs):
        inputs[row, : len(source)], targets[row, : len(target)] = source, target
    shifted = np.pad(targets[:, :-1], ((0, 0), (1, 0)))
    apply = jax.jit(model.apply, static_argnames="enable_dropout")
    return jax.nn.log_softmax(apply({"params": params}, inputs, shifted, targets, enable_dropout=False))


def soft_loss_by_hand(model, params, temperature, weight):
    """Mean over examples of T**2 KL, and the mean over the gold labels' tokens of cross entropy."""
    total, gold, tokens = 0.0, 0.0, 0
    segments = soft_segments()
    pairs = []
    for segment in segments:
        ends = np.cumsum(segment.choices)
        pairs += [
            (segment.inputs, segment.targets[e - n : e]) for e, n in zip(ends, segment.choices, strict=True)
        ]
    scored = [
        sum(float(row[i, token]) for i, token in enumerate(choice))
        for row, (_, choice) in zip(log_probs_of(model, params, pairs), pairs, strict=True)
    ]
    for segment in segments:
        scores, scored = np.array(scored[: len(segment.choices)]), scored[len(segment.choices) :]
        p = segment.probs ** (1 / temperature) / (segment.probs ** (1 / temperature)).sum()
        log_q = jax.nn.log_softmax(scores / temperature)
        kl = sum(a * (np.log(a) - b) for a, b in zip(p, log_q, strict=True) if a > 0)
        total += temperature**2 * kl / len(segments)
        if segment.reference >= 0:
            gold -= scores[segment.reference]
            tokens += segment.choices[segment.reference]
    return (1 - weight) * total + weight * gold / tokens


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_soft_labels_by_hand_however_packed(temperature):
    model, params = student()
    objective = SoftLabels(temperature, cross_entropy_weight=0.3)
    expected = soft_loss_by_hand(model, params, temperature, 0.3)
    s = soft_segments()
    for rows in ([[s[0]], [s[1]], [s[2]]], [[s[0], s[1]], [s[2]]]):
        batch = stack(rows, soft=True)
        loss, metrics = loss_of(objective, model, params, batch, losses.standard_weights())
        np.testing.assert_allclose(loss, expected, rtol=2e-5)
        np.testing.assert_allclose(metrics["divergence_count"], 3.0, rtol=1e-6)


def token_segments(count=6):
    rng = np.random.default_rng(1)
    return [
        Segment([*rng.integers(3, 40, 5).tolist(), 1], [*rng.integers(3, 40, 1 + n).tolist(), 1], 1 + n % 2, n)
        for n in range(count)
    ]


def mean_divergence_by_hand(model, params, teacher_model, teacher_params, kind):
    """alpha and 1 - alpha on the means over the tokens of the two views, one example at a time."""
    segments = token_segments()
    pairs = [(segment.inputs, segment.targets) for segment in segments]
    q, p = log_probs_of(model, params, pairs), log_probs_of(teacher_model, teacher_params, pairs)
    sums = {1: [], 2: []}
    for row, segment in enumerate(segments):
        tokens = slice(len(segment.targets))
        sums[segment.task_id] += divergences.token_divergence(q[row, tokens], p[row, tokens], kind).tolist()
    return 0.4 * np.mean(sums[1]) + 0.6 * np.mean(sums[2])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["forward_kl", "jensen_shannon"])
def test_logit_distillation_by_hand(kind):
    model, params = student()
    teacher_model, teacher_params = student(1, emb_dim=24, num_encoder_layers=2)
    objective = LogitDistillation(teacher_model, kind, cross_entropy_weight=0.0)
    s = token_segments()
    batch = stack([s[:2], s[2:3], s[3:5], s[5:]])
    weights = losses.step_by_step_weights(0.4)
    loss, metrics = loss_of(objective, model, params, batch, weights, teacher_params)
    expected = mean_divergence_by_hand(model, params, teacher_model, teacher_params, kind)
    np.testing.assert_allclose(loss, expected, rtol=2e-5)
    np.testing.assert_allclose(metrics["divergence"] / metrics["divergence_count"], expected, rtol=2e-5)


def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_it():
    model, params = student()
    objective = LogitDistillation(model, cross_entropy_weight=0.0)
    batch = stack([[s] for s in token_segments()])

    def loss(params_):
        return loss_of(objective, model, params_, batch, losses.step_by_step_weights(), params)[0]

    value, grads = jax.value_and_grad(loss)(params)
    np.testing.assert_allclose(value, 0.0, atol=1e-6)
    assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(grads)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["soft_labels", "logit_distillation"])
def test_microbatches_change_nothing(name):
    model, params = student()
    teacher = None
    if name == "soft_labels":
        s = soft_segments()
        batch = stack([[s[0]], [s[1]], [s[2]], []], soft=True)
        objective, weights = SoftLabels(), losses.standard_weights()
    else:
        batch = stack([[s] for s in token_segments(4)])
        objective, weights = LogitDistillation(model), losses.step_by_step_weights()
        teacher = jax.tree.map(lambda x: x + 0.1, params)
    optimizer = optimizers.adamw(1e-2)
    results = []
    for microbatches in (1, 2):
        step = make_train_step(model, optimizer, weights, objective=objective, microbatches=microbatches)
        state = train_state.create(jax.tree.map(jnp.copy, params), optimizer)
        results.append(step(state, batch, teacher)[1])
    for metric, value in results[0].items():
        np.testing.assert_allclose(results[1][metric], value, rtol=2e-5, atol=1e-6, err_msg=metric)
