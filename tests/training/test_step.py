import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_student import TINY

from distill_jax.data.records import Segment, to_features
from distill_jax.data.views import TASK_IDS
from distill_jax.models.t5 import Transformer
from distill_jax.training import losses, optimizers, train_state
from distill_jax.training.losses import CrossEntropy
from distill_jax.training.step import make_train_step, means

LENGTHS = {"inputs": 24, "targets": 16}


@functools.cache
def small(**changes):
    """Model and parameters, numpy arrays: a step that donates its state takes a copy of them."""
    fields = {"mlp_activations": ("gelu", "linear")} | changes
    model = Transformer(dataclasses.replace(TINY, vocab_size=40, **fields))
    return model, jax.device_get(train_state.init_params(model, 0))


def segments(count=8):
    """A label and a rationale segment of each example, of random tokens and lengths."""
    rng = np.random.default_rng(1)
    out = []
    for example in range(count // 2):
        for task_id, longest in ((TASK_IDS["label"], 3), (TASK_IDS["rationale"], 8)):
            inputs = [*rng.integers(3, 40, rng.integers(3, 8)).tolist(), 1]
            targets = [*rng.integers(3, 40, rng.integers(1, longest)).tolist(), 1]
            out.append(Segment(inputs, targets, task_id, example))
    return out


def stack(rows, **options):
    features = [to_features(row, LENGTHS, **options) for row in rows]
    return {name: jnp.stack([f[name] for f in features]) for name in features[0]}


def unpacked():
    return stack([[s] for s in segments()])


def packed():
    s = segments()
    return stack([s[:2], s[2:5], s[5:6], s[6:]])


def two_token_means(model, params, batch, alpha):
    """The reference code: a forward pass per view, each with the mean over its own tokens."""

    def mean_cross_entropy(view):
        own = np.flatnonzero((np.asarray(batch["decoder_task_ids"]) == TASK_IDS[view]).any(axis=1))
        rows = {name: x[own] for name, x in batch.items()}
        logits = model.apply(
            {"params": params},
            rows["encoder_input_tokens"],
            rows["decoder_input_tokens"],
            rows["decoder_target_tokens"],
            enable_dropout=False,
        )
        log_probs = jax.nn.log_softmax(logits)
        targets = rows["decoder_target_tokens"]
        picked = jnp.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]
        return -jnp.sum(picked * (targets > 0)) / jnp.sum(targets > 0)

    return alpha * mean_cross_entropy("label") + (1 - alpha) * mean_cross_entropy("rationale")


def our_loss(model, params, batch, alpha, loss_chunk=7):
    weights = losses.token_weights(
        batch["decoder_task_ids"],
        batch["decoder_loss_weights"],
        losses.step_by_step_weights(alpha),
    )
    batch = {**batch, "weights": weights}
    options = {"key": None, "teacher": None, "loss_chunk": loss_chunk, "z_loss": 0.0}
    return CrossEntropy()(params, model=model, batch=batch, **options)[0]


@pytest.mark.parametrize("alpha, tied", [(0.5, False), (0.2, True)])
def test_loss_and_gradients_equal_the_reference_computation(alpha, tied):
    model, params = small(logits_via_embedding=tied)
    batch = unpacked()
    ours, grads = jax.jit(jax.value_and_grad(lambda p: our_loss(model, p, batch, alpha)))(params)
    theirs, their_grads = jax.jit(jax.value_and_grad(lambda p: two_token_means(model, p, batch, alpha)))(params)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), grads, their_grads)


def test_shared_inputs_do_not_change_the_loss_or_its_gradients():
    """Each input encoded once for label and rationale, against once for each of them."""
    model, params = small()
    alone, together = [], []
    for label, rationale in zip(segments()[::2], segments()[1::2], strict=True):
        alone += [label, dataclasses.replace(rationale, inputs=label.inputs, start=1)]
        together += [label, dataclasses.replace(rationale, inputs=[], start=1)]
    batches = [
        stack([[s] for s in alone]),
        stack([together[:2], together[2:6], together[6:]], shared=True),
    ]
    losses_and_grads = [
        jax.jit(jax.value_and_grad(lambda p, batch=batch: our_loss(model, p, batch, 0.3)))(params)
        for batch in batches
    ]
    np.testing.assert_allclose(losses_and_grads[0][0], losses_and_grads[1][0], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), *(g for _, g in losses_and_grads))


def test_packing_does_not_change_the_loss_or_any_token():
    model, params = small()
    loss = jax.jit(lambda batch: our_loss(model, params, batch, 0.5))
    np.testing.assert_allclose(loss(packed()), loss(unpacked()), rtol=1e-5)

    names = ("encoder_input_tokens", "decoder_input_tokens", "decoder_target_tokens")
    names += ("encoder_segment_ids", "decoder_segment_ids")
    apply = jax.jit(functools.partial(model.apply, enable_dropout=False))

    def per_token(batch):
        logits = apply({"params": params}, *(batch[name] for name in names))
        return np.asarray(logits)[np.asarray(batch["decoder_loss_weights"]) > 0]

    np.testing.assert_allclose(per_token(packed()), per_token(unpacked()), atol=1e-5)


def test_microbatches_change_nothing():
    model, params = small()
    optimizer = optimizers.adamw(1e-2)
    weights = losses.step_by_step_weights()
    ends = []
    for microbatches in (1, 4):
        step = make_train_step(model, optimizer, weights, microbatches=microbatches)
        state = train_state.create(params, optimizer)
        for _ in range(3):
            state, metrics = step(state, packed())
        ends.append((state.params, metrics))
    for other in ends[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ends[0], other)


def test_dropout_depends_on_seed_and_step_alone():
    model, params = small(dropout_rate=0.3)
    optimizer = optimizers.adamw(1e-2)
    weights = losses.step_by_step_weights()
    steps = {seed: make_train_step(model, optimizer, weights, seed=seed) for seed in (0, 1)}

    def loss(seed, step):
        state = train_state.create(params, optimizer)
        return float(steps[seed](state.replace(step=jnp.int32(step)), unpacked())[1]["loss"])

    assert loss(0, 5) == loss(0, 5)
    assert loss(0, 5) != loss(0, 6)
    assert loss(0, 5) != loss(1, 5)


def test_means_are_per_view():
    sums = {
        "label_cross_entropy": 6.0,
        "label_correct": 1.0,
        "label_tokens": 4.0,
        "rationale_cross_entropy": 0.0,
        "rationale_correct": 0.0,
        "rationale_tokens": 0.0,
    }
    assert means(sums) == {"label_loss": 1.5, "label_token_accuracy": 0.25}


def test_bfloat16_compute_keeps_float32_parameters():
    model, params = small(dtype="bfloat16")
    optimizer = optimizers.adafactor(1e-2)
    step = make_train_step(model, optimizer, losses.step_by_step_weights())
    state, metrics = step(train_state.create(params, optimizer), packed())
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(state.params))
    assert np.isfinite(metrics["loss"])


def test_a_step_that_is_not_finite_changes_nothing_but_the_count():
    model, params = small()
    optimizer = optimizers.adamw(1e-2)
    step = make_train_step(model, optimizer, losses.step_by_step_weights())
    state, metrics = step(train_state.create(params, optimizer), packed())
    assert metrics["skipped"] == 0.0
    before = jax.device_get(state)
    spoiled = packed()
    spoiled["decoder_loss_weights"] = spoiled["decoder_loss_weights"].at[0, 0].set(jnp.nan)
    state, metrics = step(state, spoiled)
    assert metrics["skipped"] == 1.0
    jax.tree.map(np.testing.assert_array_equal, state.replace(step=before.step), before)
    state, metrics = step(state, packed())
    assert metrics["skipped"] == 0.0 and int(state.step) == 3


@pytest.mark.parametrize("make", [optimizers.adamw, optimizers.adafactor])
def test_finite_gradients_with_an_update_that_is_not_change_nothing_but_the_count(make):
    """The rate is infinite at the step that the optimizer counts as its second."""
    model, params = small()
    optimizer = make(lambda count: jnp.where(count == 1, jnp.inf, 1e-2))
    step = make_train_step(model, optimizer, losses.step_by_step_weights())
    state, metrics = step(train_state.create(params, optimizer), packed())
    assert metrics["skipped"] == 0.0
    before = jax.device_get(state)
    state, metrics = step(state, packed())
    assert metrics["skipped"] == 1.0 and np.isfinite(metrics["grad_norm"]) and np.isfinite(metrics["loss"])
    assert int(state.step) == 2
    jax.tree.map(np.testing.assert_array_equal, state.replace(step=before.step), before)


def test_a_parameter_that_an_update_carries_beyond_float32_is_not_updated():
    model, params = small()
    params = jax.tree.map(np.copy, params)
    params["token_embedder"]["embedding"][39, 0] = 3e38
    optimizer = optax.stateless(lambda grads, params: jax.tree.map(lambda g: jnp.full_like(g, 1e38), grads))
    step = make_train_step(model, optimizer, losses.step_by_step_weights())
    state, metrics = step(train_state.create(params, optimizer), stack([[Segment([3, 1], [4, 1], 1, 0)]]))
    assert metrics["skipped"] == 1.0 and np.isfinite(metrics["loss"])
    assert state.params["token_embedder"]["embedding"][39, 0] == np.float32(3e38)


@pytest.mark.parametrize("microbatches, z_loss", [(4, 0.0), (2, 1e-2)])
def test_accumulated_gradients_are_those_of_the_whole_batch(microbatches, z_loss):
    """Also where some microbatches hold no label token and one holds no token at all."""
    model, params = small()
    own = segments()
    rows = [[own[1]], [own[0], own[2]], [own[3]], []]  # rationale, labels, rationale, empty
    optimizer = optax.sgd(1.0)  # the parameters' change is the gradient

    def after(microbatches):
        step = make_train_step(
            model, optimizer, losses.step_by_step_weights(0.3), microbatches=microbatches, z_loss=z_loss
        )
        state, metrics = step(train_state.create(params, optimizer), stack(rows))
        return state.params, metrics

    whole = after(1)
    assert whole[1]["label_tokens"] > 0 and whole[1]["grad_norm"] > 0.1
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6), after(microbatches), whole
    )


def test_microbatches_draw_dropout_of_their_own():
    """Two equal rows: in one microbatch they differ by their place, in two by the microbatch's key."""
    model, params = small(dropout_rate=0.5)
    row = segments()[:2]
    found = set()
    for rows, microbatches in (([row], 1), ([row, row], 2)):
        step = make_train_step(model, optax.sgd(0.0), losses.step_by_step_weights(), microbatches=microbatches)
        state = train_state.create(params, optax.sgd(0.0))
        found.add(round(float(step(state, stack(rows))[1]["loss"]), 5))
    assert len(found) == 2


def test_z_loss_is_that_of_t5():
    """Mesh TensorFlow's: `z_loss * log(Z)**2` is added to each token's cross entropy."""
    model, params = small()
    batch = stack([[segments()[0]]])
    logits = jax.jit(functools.partial(model.apply, enable_dropout=False))(
        {"params": params},
        batch["encoder_input_tokens"],
        batch["decoder_input_tokens"],
        batch["decoder_target_tokens"],
    )
    counted = batch["decoder_loss_weights"] > 0
    expected = 0.01 * jnp.mean(jax.nn.logsumexp(logits, axis=-1)[counted] ** 2)
    totals = []
    for z_loss in (0.0, 0.01):
        step = make_train_step(model, optax.sgd(0.0), losses.standard_weights(), z_loss=z_loss)
        state = train_state.create(params, optax.sgd(0.0))
        totals.append(float(step(state, batch)[1]["loss"]))
    np.testing.assert_allclose(totals[1] - totals[0], expected, rtol=1e-4)
