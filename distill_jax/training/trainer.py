"""A whole training run: prepare, restore or start, step, log, evaluate, checkpoint."""

import collections
import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from distill_jax.data import own, registry
from distill_jax.data.loader import Loader
from distill_jax.data.prepare import prepare
from distill_jax.data.selection import Filters
from distill_jax.data.vocabularies import load_vocabulary
from distill_jax.errors import UserError
from distill_jax.evaluation.evaluator import evaluate
from distill_jax.models.t5 import Transformer
from distill_jax.training import partitioning, run_dir, train_state
from distill_jax.training.checkpoints import Checkpointer
from distill_jax.training.initial import initial_params, load_teacher
from distill_jax.training.metrics import MetricWriter
from distill_jax.training.objectives import CrossEntropy, Objective
from distill_jax.training.progress import ProgressBar
from distill_jax.training.step import make_eval_step, make_train_step, means


def with_vocabulary_size(model: Transformer, vocabulary) -> Transformer:
    """The model with as many ids as the vocabulary needs, where its config leaves the number open.

    The number is rounded up to a multiple of 128, which is what matrix units like.

    Raises:
      UserError: when the config's number is smaller than the vocabulary.
    """
    config = model.config
    if config.vocab_size is None:
        rounded = -(-vocabulary.vocab_size // 128) * 128
        return Transformer(dataclasses.replace(config, vocab_size=rounded))
    if config.vocab_size < vocabulary.vocab_size:
        raise UserError(
            f"VOCAB_SIZE is {config.vocab_size}, but the vocabulary has {vocabulary.vocab_size} ids"
        )
    return model


def _check_views(name: str, views, view_weights: Mapping[str, float]) -> None:
    there, weighed = {view.name for view in views}, set(view_weights)
    if there != weighed:
        raise UserError(
            f"MIXTURE_OR_TASK_NAME {name!r} has the views {sorted(there)}, but the recipe weighs "
            f"{sorted(weighed)}: take the recipe of the same method"
        )


def train(
    *,
    model: Transformer,
    model_dir: str,
    mixture_or_task_name: str,
    task_feature_lengths: Mapping[str, int],
    vocabulary: str,
    optimizer: optax.GradientTransformation,
    view_weights: Mapping[str, float],
    batch_size: int,
    train_steps: int,
    objective: Objective = CrossEntropy(),  # noqa: B008, frozen
    teacher_checkpoint_path: str | None = None,
    own_data: Mapping[str, Any] | None = None,
    label_source: str = "gold",
    data_fraction: float = 1.0,
    num_examples: int | None = None,
    filters: Filters = Filters(),  # noqa: B008, frozen
    pack: bool = True,
    data_dir: str | None = None,
    module: str | None = None,
    initial_checkpoint_path: str | None = None,
    seed: int = 0,
    microbatches: int = 1,
    loss_chunk: int = 2048,
    z_loss: float = 0.0,
    log_period: int = 10,
    eval_period: int = 1000,
    eval_examples: int | None = None,
    checkpoint_period: int = 1000,
    keep_checkpoints: int | None = 3,
    keep_best_checkpoints: int = 1,
    summarize_config: Callable[[str], None] | None = None,
) -> dict[str, float]:
    """Trains a student, from the latest checkpoint in `model_dir` if there is one.

    Args:
      model: the student; its config may leave `vocab_size` open (None).
      model_dir: the run's folder, see `run_dir`.
      mixture_or_task_name: a registered name, such as `svamp_step_by_step`.
      task_feature_lengths: `{"inputs": …, "targets": …}` in tokens; the lengths of a packed row.
      vocabulary: `bytes`, a SentencePiece file, or `train:SIZE`; see `data.vocabularies`.
      optimizer: an optax optimizer.
      view_weights: weight of each view's mean loss, of `distill_jax.losses`.
      batch_size: rows of a global batch (packed rows, where `pack`).
      train_steps: updates in all, those before a restart included.
      objective: what is minimised, of `training.objectives`.
      teacher_checkpoint_path: a white-box teacher, where the objective needs one, given as
        `initial_checkpoint_path` is, with the student's vocabulary.
      own_data: of `data.own.describe`: the user's files, registered as a task first.
      label_source: `gold` or `teacher`, what the label view is trained on.
      data_fraction: share of the training examples to use, nested and the same for every method.
      num_examples: or their number.
      filters: which of these to keep.
      pack: several examples to a row, kept apart by segment ids.
      data_dir: folder of the data sets; default the environment's DISTILL_JAX_DATA_DIR.
      module: Python module that registers the task, where it is not one of ours.
      initial_checkpoint_path: a run's folder, one of its checkpoints, a T5X checkpoint or a Hugging Face
        folder; local, `gs://…` or `hf://ORG/NAME`.
      seed: of the parameters, the order of the data and the dropout.
      microbatches: parts a batch is worked off in, to save memory.
      loss_chunk: tokens whose logits are held at a time.
      z_loss: factor of `log(Z)**2` per token.
      log_period: steps between two lines of metrics.
      eval_period: steps between two evaluations of the validation split; 0 for none.
      eval_examples: validation examples to decode; None for all.
      checkpoint_period: steps between two checkpoints; one is always written at the end.
      keep_checkpoints: the latest to keep; None keeps all.
      keep_best_checkpoints: the best by validation accuracy to keep beside those.
      summarize_config: called with `model_dir` once the folder is claimed.

    Returns:
      The last training metrics, validation metrics (`validation/…`), `steps` and `seconds`.

    Raises:
      UserError: for anything the user can set right, before the first step where possible.
    """
    if data_dir is not None:
        os.environ["DISTILL_JAX_DATA_DIR"] = str(data_dir)
    mesh = partitioning.data_mesh()
    partitioning.check_batch_size(batch_size, microbatches, mesh)
    with registry.without_seqio():
        if own_data is not None:
            own.register_own(own_data)
        task, views = registry.resolve(mixture_or_task_name, label_source, module)
    _check_views(mixture_or_task_name, views, view_weights)
    common = {
        "vocabulary": vocabulary,
        "task_feature_lengths": dict(task_feature_lengths),
        "pack": pack,
        "label_source": label_source,
        "seed": seed,
        "module": module,
    }
    records = prepare(
        mixture_or_task_name,
        "train",
        data_fraction=data_fraction,
        num_examples=num_examples,
        filters=filters,
        **common,
    )
    vocabulary = load_vocabulary(records.vocabulary)
    common["vocabulary"] = records.vocabulary
    validation = prepare(mixture_or_task_name, "validation", **common) if eval_period else None
    model = with_vocabulary_size(model, vocabulary)
    teacher = None
    if objective.needs_teacher:
        teacher_model, teacher = load_teacher(teacher_checkpoint_path, vocabulary)
        objective = dataclasses.replace(objective, teacher_model=teacher_model)
        teacher = partitioning.replicate(teacher, mesh)
    run = run_dir.Run(
        mixture_or_task_name=mixture_or_task_name,
        label_source=label_source,
        module=module,
        task_feature_lengths=dict(task_feature_lengths),
        vocabulary=vocabulary.fingerprint,
        data=records.key,
        model=dataclasses.asdict(model.config),
        batch_size=batch_size,
        seed=seed,
        view_weights=dict(view_weights),
        objective=repr(objective),
        teacher=teacher_checkpoint_path if objective.needs_teacher else None,
        own_data=own_data,
    )
    run_dir.claim(model_dir, run)
    vocabulary.save(model_dir)
    if summarize_config is not None:
        summarize_config(model_dir)

    checkpointer = Checkpointer(
        model_dir, keep=keep_checkpoints, keep_best=keep_best_checkpoints, metric="label_accuracy"
    )
    loader = Loader(
        records.path,
        batch_size,
        seed=seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    state = _start(model, optimizer, checkpointer, loader, initial_checkpoint_path, seed, mesh)
    start_step = int(state.step)
    writer = MetricWriter(model_dir, start_step)
    bar = ProgressBar(train_steps, start_step)
    train_step = make_train_step(
        model,
        optimizer,
        view_weights,
        objective=objective,
        seed=seed,
        microbatches=microbatches,
        loss_chunk=loss_chunk,
        z_loss=z_loss,
    )
    eval_step = make_eval_step(model, view_weights, objective=objective, loss_chunk=loss_chunk)

    def validate(params) -> dict[str, float]:
        losses = _validation_losses(eval_step, params, teacher, validation.path, batch_size, mesh)
        scores = evaluate(
            params,
            model,
            vocabulary,
            task,
            views,
            "validation",
            batch_size=4 * batch_size,
            task_feature_lengths=task_feature_lengths,
            num_examples=eval_examples,
        ).metrics
        return losses | scores

    means_now: dict[str, float] = {}
    last_scores: dict[str, float] = {}
    pending: list[dict[str, jax.Array]] = []
    began = logged = time.monotonic()
    tokens = 0
    try:
        for step, batch in zip(range(start_step + 1, train_steps + 1), loader, strict=False):
            tokens += int((batch["encoder_segment_ids"] > 0).sum())
            tokens += int((batch["decoder_segment_ids"] > 0).sum())
            state, metrics = train_step(state, partitioning.shard_batch(batch, mesh), teacher)
            pending.append(metrics)
            last = step == train_steps
            if step % log_period == 0 or last:
                means_now = _average(jax.device_get(pending))
                now = time.monotonic()
                speed = tokens / (now - logged)
                left = (now - began) / (step - start_step) * (train_steps - step)
                writer.write(step, means_now | {"tokens_per_second": speed})
                bar.update(step, means_now, speed, left)
                pending, tokens, logged = [], 0, now
            scores = None
            if eval_period and (step % eval_period == 0 or last):
                scores = validate(state.params)
                writer.write(step, scores, "validation")
                logged = time.monotonic()
            if step % checkpoint_period == 0 or last or scores is not None:
                checkpointer.save(state, loader.get_state(), scores)
            last_scores = scores or last_scores
    finally:
        bar.close()
        writer.close()
        checkpointer.close()
    validated = {f"validation/{name}": value for name, value in last_scores.items()}
    return means_now | validated | {"steps": train_steps, "seconds": time.monotonic() - began}


def _start(model, optimizer, checkpointer, loader, initial_checkpoint_path, seed, mesh):
    """The state to go on from; the loader is moved to the same place."""
    shapes = jax.eval_shape(lambda: train_state.create(train_state.init_params(model, seed), optimizer))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)
    restored = checkpointer.restore(like)
    if restored is not None:
        state, position = restored
        loader.set_state(position)
        return state
    params = partitioning.replicate(initial_params(model, initial_checkpoint_path, seed), mesh)
    return partitioning.replicate(train_state.create(params, optimizer), mesh)


def _average(batches: list[dict[str, jax.Array]]) -> dict[str, float]:
    """Metrics of some steps as one: the views' sums pooled, loss and gradient norm averaged."""
    total = collections.Counter()
    for metrics in batches:
        total.update({name: float(value) for name, value in metrics.items()})
    steps = len(batches)
    out = {"loss": total["loss"] / steps, **means(total)}
    if "grad_norm" in total:
        out["grad_norm"] = total["grad_norm"] / steps
    return out


def _validation_losses(eval_step, params, teacher, path, batch_size, mesh) -> dict[str, float]:
    """Per-view means over the validation split, by teacher forcing."""
    total = collections.Counter()
    for batch in Loader(path, batch_size, seed=0, shuffle=False, num_epochs=1, pad_last=True):
        metrics = jax.device_get(eval_step(params, partitioning.shard_batch(batch, mesh), teacher))
        total.update({name: float(value) for name, value in metrics.items() if name != "loss"})
    return means(total)
