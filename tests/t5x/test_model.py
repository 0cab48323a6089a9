"""Our engine and T5X's, on the same weights and batches: losses, steps, predictions."""

import dataclasses
import types

import numpy as np
import pytest

pytest.importorskip("t5x", reason="T5X is on no registry: docs/t5x.md tells how it is installed")
pytestmark = pytest.mark.slow  # TensorFlow takes seconds to import

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import seqio  # noqa: E402
from flax.core import freeze, unfreeze  # noqa: E402
from t5x import adafactor, partitioning, trainer, utils  # noqa: E402
from t5x import eval as t5x_eval  # noqa: E402
from t5x.examples.t5 import network  # noqa: E402

from distill_jax.checkpoints.other_formats.parameters import from_tree, to_tree  # noqa: E402
from distill_jax.data.records import to_features  # noqa: E402
from distill_jax.data.tokenization import new_counts, tokenize  # noqa: E402
from distill_jax.data.vocabularies import ByteVocabulary  # noqa: E402
from distill_jax.decoding.engine import Decoding  # noqa: E402
from distill_jax.decoding.predict import Request  # noqa: E402
from distill_jax.errors import UserError  # noqa: E402
from distill_jax.evaluation.evaluator import Evaluator  # noqa: E402
from distill_jax.models.config import T5Config  # noqa: E402
from distill_jax.models.t5 import Transformer  # noqa: E402
from distill_jax.t5x.model import DistillationModel  # noqa: E402
from distill_jax.t5x.trainer import with_view_means  # noqa: E402
from distill_jax.training import losses, optimizers, schedules, train_state  # noqa: E402
from distill_jax.training.step import make_eval_step, make_train_step, means  # noqa: E402

LENGTHS = {"inputs": 80, "targets": 64}
SHAPE = dict(
    vocab_size=384,
    emb_dim=128,
    num_heads=4,
    num_encoder_layers=1,
    num_decoder_layers=1,
    head_dim=32,
    mlp_dim=160,
    dropout_rate=0.0,
)
STYLES = {
    "t5_1_1": {"mlp_activations": ("gelu", "linear"), "logits_via_embedding": False},
    "t5_1_0": {"mlp_activations": ("relu",), "logits_via_embedding": True},
}


def batches(name, count, pack, batch_size=8, seed=3):
    """Batches as T5X's trainer gets them: dicts of arrays [batch, length]."""
    config = utils.DatasetConfig(
        mixture_or_task_name=name,
        task_feature_lengths=LENGTHS,
        split="train",
        batch_size=batch_size,
        shuffle=True,
        seed=seed,
        pack=pack,
    )
    dataset = utils.get_dataset(config, 0, 1, DistillationModel.FEATURE_CONVERTER_CLS)
    return list(dataset.take(count).as_numpy_iterator())


def ours(**style):
    """A student of our engine."""
    return Transformer(T5Config(**SHAPE, **(style or STYLES["t5_1_1"])))


def theirs(**style):
    """The same in T5X's network."""
    return network.Transformer(network.T5Config(**SHAPE, dtype="float32", **(style or STYLES["t5_1_1"])))


def params_of(model, seed=0):
    return train_state.init_params(model, seed)


def t5x_model(module, optimizer=None, weights=None, **options):
    vocabulary = seqio.ByteVocabulary()
    weights = losses.step_by_step_weights() if weights is None else weights
    return DistillationModel(module, vocabulary, vocabulary, optimizer, weights, **options)


def t5x_state(model, batch, params):
    """(train state, its axes, partitioner) of T5X, with these parameters."""
    partitioner = partitioning.PjitPartitioner(num_partitions=1)
    initializer = utils.TrainStateInitializer(
        optimizer_def=model.optimizer_def,
        init_fn=model.get_initial_variables,
        input_shapes={name: x.shape for name, x in batch.items()},
        partitioner=partitioner,
    )
    state = initializer.from_scratch(jax.random.key(0))
    params = freeze(jax.tree.map(jnp.array, params))  # copies: the step donates them
    return state.replace_params(params), initializer.train_state_axes, partitioner


def t5x_trainer(model, batch, params, schedule, microbatches=None, trainer_cls=None):
    state, axes, partitioner = t5x_state(model, batch, params)
    return (trainer_cls or with_view_means(trainer.Trainer))(
        model=model,
        train_state=state,
        partitioner=partitioner,
        eval_names=["eval"],
        summary_dir=None,
        train_state_axes=axes,
        rng=jax.random.key(0),
        learning_rate_fn=schedule,
        num_microbatches=microbatches,
    )


def t5x_adafactor():
    return adafactor.Adafactor(
        decay_rate=0.8, step_offset=0, logical_factor_rules=adafactor.standard_logical_factor_rules()
    )


def for_our_engine(batch):
    """T5X's batch as our loader's: float weights, and segments where it is not packed."""
    batch = dict(batch)
    for side, tokens in (("encoder", "encoder_input_tokens"), ("decoder", "decoder_target_tokens")):
        there = batch[tokens] > 0
        batch.setdefault(f"{side}_segment_ids", there.astype(np.int32))
        positions = np.arange(there.shape[1], dtype=np.int32) * there
        batch.setdefault(f"{side}_positions", positions.astype(np.int32))
    return batch | {"decoder_loss_weights": batch["decoder_loss_weights"].astype(np.float32)}


STEP_BY_STEP = losses.step_by_step_weights(0.3)


def clu(metrics):
    return {name: float(metrics[name].compute()) for name in metrics if not name.startswith("timing")}


@pytest.fixture(params=["ours", "theirs"])
def build(request):
    """Each of the two networks as T5X's module."""
    return {"ours": ours, "theirs": theirs}[request.param]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("pack", [True, False])
def test_losses_at_step_0(counting, build, style, pack):
    """Per view and in all, to 1e-4."""
    (batch,) = batches("counting_step_by_step", 1, pack)
    student = ours(**STYLES[style])
    params = params_of(student)
    expected = make_eval_step(student, STEP_BY_STEP)(params, for_our_engine(batch))
    model = t5x_model(build(**STYLES[style]), weights=STEP_BY_STEP)
    loss, metrics = jax.jit(model.eval_fn)(params, batch)
    assert float(loss) == pytest.approx(float(expected["loss"]), abs=1e-4)
    found = clu(metrics)
    for name, value in means(expected).items():
        assert found[name] == pytest.approx(value, abs=1e-4), name
    for view in ("label", "rationale"):
        assert found[f"{view}_tokens"] == float(expected[f"{view}_tokens"]) > 0
    assert found["loss"] == pytest.approx(0.3 * found["label_loss"] + 0.7 * found["rationale_loss"], abs=1e-4)


OPTIMIZERS = {
    "adamw": (optimizers.adamw, lambda schedule: optimizers.adamw(schedule), 1e-3),
    "adafactor": (optimizers.adafactor, lambda schedule: t5x_adafactor(), 1e-2),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameters_after_20_steps(counting, build, name):
    """The same parameters to 1e-3 of their norm, matrix by matrix, and the same losses on the way."""
    own, their, learning_rate = OPTIMIZERS[name]
    schedule = schedules.linear(learning_rate, 40, 5)
    data = batches("counting_step_by_step", 20, pack=True)
    student = ours()
    params = params_of(student)
    optimizer = own(schedule)
    step = make_train_step(student, optimizer, STEP_BY_STEP)
    state = train_state.create(jax.tree.map(jnp.array, params), optimizer)
    expected = []
    for batch in data:
        state, sums = step(state, for_our_engine(batch))
        expected.append(float(sums["loss"]))
    model = t5x_model(build(), their(schedule), STEP_BY_STEP)
    with t5x_trainer(model, data[0], params, schedule) as loop:
        found = [float(loop.train(iter([batch]), 1).result()["loss"].value) for batch in data]
        after = loop.train_state.params
    assert found == pytest.approx(expected, abs=1e-3)
    assert found[-1] < found[0] - 0.5

    def check(path, mine, theirs_now, before):
        moved = jnp.linalg.norm(mine - before)
        assert jnp.linalg.norm(mine - theirs_now) <= 1e-3 * jnp.linalg.norm(mine), path
        assert moved > 0, path

    jax.tree_util.tree_map_with_path(check, state.params, unfreeze(after), params)


def test_microbatches_change_nothing(counting):
    """Packed rows hold unlike numbers of label tokens: a mean per microbatch would give another loss."""
    (batch,) = batches("counting_step_by_step", 1, pack=True)
    student = ours()
    params = params_of(student)
    schedule = schedules.constant(1e-2)
    results = {}
    for microbatches in (None, 4):
        model = t5x_model(student, t5x_adafactor(), STEP_BY_STEP)
        with t5x_trainer(model, batch, params, schedule, microbatches) as loop:
            summary = loop.train(iter([batch]), 1).result()
            results[microbatches] = summary, loop.train_state.params
    for name in ("loss", "label_loss", "rationale_loss", "label_tokens", "accuracy"):
        values = [float(results[m][0][name].value) for m in (None, 4)]
        assert values[0] == pytest.approx(values[1], rel=1e-5), name
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), results[None][1], results[4][1]
    )


def test_plain_trainer_is_refused(counting):
    (batch,) = batches("counting_step_by_step", 1, pack=True)
    model = t5x_model(ours(), t5x_adafactor())
    loop = t5x_trainer(model, batch, params_of(ours()), schedules.constant(1e-2), trainer_cls=trainer.Trainer)
    with loop, pytest.raises(UserError, match="with_view_means"):
        loop.train(iter([batch]), 1)


def test_settings_that_would_change_the_loss_are_refused(counting):
    vocabulary = seqio.ByteVocabulary()
    with pytest.raises(UserError, match="LOSS_NORMALIZING_FACTOR must be None, got 'AVERAGE"):
        DistillationModel(ours(), vocabulary, vocabulary, loss_normalizing_factor="AVERAGE_PER_SEQUENCE")
    with pytest.raises(UserError, match="LABEL_SMOOTHING"):
        DistillationModel(ours(), vocabulary, vocabulary, label_smoothing=0.1)
    with pytest.raises(UserError, match=r"module flax.linen.linear.Dense: expected"):
        DistillationModel(jax_dense(), vocabulary, vocabulary)
    (batch,) = batches("counting_step_by_step", 1, pack=True)
    model = DistillationModel(ours(), vocabulary, vocabulary)
    with pytest.raises(UserError, match="no view weights"):
        model.eval_fn({}, batch)
    del batch["decoder_task_ids"]
    with pytest.raises(UserError, match="targets_task_ids"):
        t5x_model(ours()).eval_fn({}, batch)


def jax_dense():
    from flax import linen as nn

    return nn.Dense(3)


@pytest.fixture(scope="module")
def trained(counting):
    """Parameters that have learnt enough to say different things of different inputs."""
    student = ours()
    optimizer = optimizers.adafactor(schedules.constant(2e-2))
    step = make_train_step(student, optimizer, losses.step_by_step_weights())
    state = train_state.create(params_of(student), optimizer)
    for batch in batches("counting_step_by_step", 60, pack=True, batch_size=4):
        state, _ = step(state, for_our_engine(batch))
    return state.params


def predictions_of_t5x(module, params, num_beams=1):
    """Texts and metrics of T5X's evaluation, task by task."""
    model = t5x_model(module, num_beams=num_beams)
    config = utils.DatasetConfig(
        mixture_or_task_name="counting_step_by_step",
        task_feature_lengths=LENGTHS,
        split="validation",
        batch_size=16,
        shuffle=False,
        seed=0,
    )
    partitioner = partitioning.PjitPartitioner(num_partitions=1)
    evaluator = t5x_eval.InferenceEvaluator(config, seqio.Evaluator, model, partitioner)
    shapes = {name: (16, *shape) for name, shape in evaluator.model_feature_shapes.items()}
    initializer = utils.TrainStateInitializer(None, model.get_initial_variables, shapes, partitioner)
    state = initializer.from_scratch(jax.random.key(0)).replace_params(freeze(params))
    metrics = evaluator.evaluate(state, initializer.train_state_axes).result()
    predict = utils.get_infer_fn(model.predict_batch, 16, initializer.train_state_axes, partitioner)
    texts = {}
    for task, dataset in evaluator._seqio_evaluator.cached_model_datasets.items():
        found = sorted(predict(dataset, state, jax.random.PRNGKey(0)))
        texts[task] = [ByteVocabulary().decode(np.asarray(ids).tolist()) for _, ids in found if _ >= 0]
    return texts, metrics


@pytest.mark.parametrize("num_beams", [1, 3])
def test_same_predictions_and_metrics(counting, build, trained, num_beams):
    mine = Evaluator(
        types.SimpleNamespace(
            model=ours(),
            vocabulary=ByteVocabulary(),
            task=counting,
            views=counting.views("step_by_step"),
            lengths=LENGTHS,
        ),
        batch_size=16,
        request=Request(decoding=Decoding(num_beams=num_beams, beam_rule="t5x", length_penalty=0.6)),
    ).evaluate(trained, "validation")
    texts, metrics = predictions_of_t5x(build(), trained, num_beams)
    assert texts["counting_label"] == [row["predicted_label"] for row in mine.rows]
    with_rationale = [row for row in mine.rows if row["rationale"] is not None]
    assert texts["counting_rationale"] == [row["predicted_rationale"] for row in with_rationale]
    assert len(set(texts["counting_label"])) > 3
    assert metrics["counting_label"]["accuracy"] == mine.metrics["label_accuracy"]
    assert metrics["counting_rationale"]["rougeL"] == pytest.approx(mine.metrics["rationale_rougeL"])


def test_scanned_layers_decode_alike(counting, trained):
    scanned = Transformer(dataclasses.replace(ours().config, scan_layers=True))
    for num_beams in (1, 3):
        texts, _ = predictions_of_t5x(ours(), trained, num_beams)
        assert predictions_of_t5x(scanned, to_tree(from_tree(trained), scan_layers=True), num_beams)[0] == texts


def soft_rows(task, count):
    """Our own features of the first examples, one to a row."""
    views = task.views("soft_labels")
    examples = list(enumerate(task.source.examples("train")))[:count]
    groups = tokenize(examples, views, ByteVocabulary(), LENGTHS, new_counts(views), task.classes)
    return [to_features(group, LENGTHS, soft=True) for group in groups]


def test_soft_labels_have_our_features(counting):
    dataset = seqio.get_mixture_or_task("counting_soft_labels").get_dataset(LENGTHS, "train", shuffle=False)
    converted = DistillationModel.FEATURE_CONVERTER_CLS(pack=False)(dataset, LENGTHS)
    expected = soft_rows(counting, 10)
    for row, found in zip(expected, converted.as_numpy_iterator(), strict=False):
        assert set(found) == set(row)
        for name, values in row.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.parametrize("pack", [True, False])
def test_soft_label_loss(counting, build, pack):
    objective = losses.SoftLabels(temperature=2.0, cross_entropy_weight=0.25)
    (batch,) = batches("counting_soft_labels", 1, pack)
    student = ours()
    params = params_of(student)
    weights = losses.standard_weights()
    expected = make_eval_step(student, weights, objective=objective)(params, for_our_engine(batch))
    model = t5x_model(build(), weights=weights, objective=objective)
    loss, metrics = jax.jit(model.eval_fn)(params, batch)
    assert float(loss) == pytest.approx(float(expected["loss"]), abs=1e-4)
    assert clu(metrics)["divergence"] == pytest.approx(means(expected)["divergence"], abs=1e-4)


def test_soft_label_loss_does_not_depend_on_packing(counting):
    objective = losses.SoftLabels(cross_entropy_weight=0.25)
    dataset = seqio.get_mixture_or_task("counting_soft_labels").get_dataset(LENGTHS, "train", shuffle=False)
    params = params_of(ours())
    model = t5x_model(ours(), weights=losses.standard_weights(), objective=objective)
    found = []
    for pack in (True, False):
        converter = DistillationModel.FEATURE_CONVERTER_CLS(pack=pack)
        (batch,) = converter(dataset.take(12), LENGTHS).batch(12).as_numpy_iterator()
        found.append(float(model.eval_fn(params, batch)[0]))
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def test_logit_distillation(counting, build, monkeypatch):
    """The teacher's parameters go with each step; the loss is ours, and they do not move."""
    teacher = ours()
    teacher_params = params_of(teacher, seed=5)
    monkeypatch.setattr(
        "distill_jax.t5x.model.load_teacher", lambda path, vocabulary: (teacher, teacher_params)
    )
    objective = losses.LogitDistillation(kind="jensen_shannon", cross_entropy_weight=0.25)
    (batch,) = batches("counting_logit_distillation", 1, pack=True)
    student = ours()
    params = params_of(student)
    own = dataclasses.replace(objective, teacher_model=teacher)
    expected = make_eval_step(student, STEP_BY_STEP, objective=own)(
        params, for_our_engine(batch), teacher_params
    )
    schedule = schedules.constant(1e-2)
    model = t5x_model(
        build(), t5x_adafactor(), STEP_BY_STEP, objective=objective, teacher_checkpoint_path="teacher"
    )
    with t5x_trainer(model, batch, params, schedule, microbatches=2) as loop:
        loop.compile_train(batch)
        summary = loop.train(iter([batch, batch]), 2).result()
        scores = loop.eval({"eval": iter([batch])})["eval"]
    first = clu(jax.jit(model.eval_fn)(params, batch)[1])
    assert first["loss"] == pytest.approx(float(expected["loss"]), abs=1e-4)
    assert first["divergence"] == pytest.approx(means(expected)["divergence"], abs=1e-4)
    assert float(scores["loss"].value) < float(summary["loss"].value) < first["loss"] + 1e-3
