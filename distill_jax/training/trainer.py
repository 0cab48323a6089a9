"""A whole training run: prepare, restore or start, step, log, evaluate, checkpoint."""

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optax

from distill_jax.checkpoints import run_dir
from distill_jax.checkpoints.orbax import Checkpointer
from distill_jax.data import sources
from distill_jax.data.loader import Loader
from distill_jax.data.prepare import Prepared, prepare
from distill_jax.data.selection import Filters
from distill_jax.data.vocabularies import load_vocabulary
from distill_jax.evaluation.evaluator import Evaluator
from distill_jax.models.t5 import Transformer
from distill_jax.tasks import own, registry
from distill_jax.training import distributed, host_memory, loop, partitioning
from distill_jax.training.nonfinite import Guard
from distill_jax.training.objectives import CrossEntropy, Objective
from distill_jax.training.start import check_views, example_ids, start, with_teacher, with_vocabulary_size
from distill_jax.training.step import make_eval_step, make_train_step, means
from distill_jax.training.stored_logits import store_top_k


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
    teacher_top_k: int | None = None,
    own_data: Mapping[str, Any] | None = None,
    label_source: str = "gold",
    rationale_rate: float | None = None,
    data_fraction: float = 1.0,
    num_examples: int | None = None,
    filters: Filters = Filters(),  # noqa: B008, frozen
    pack: bool = True,
    data_dir: str | None = None,
    teacher_name: str | None = None,
    module: str | None = None,
    initial_checkpoint_path: str | None = None,
    seed: int = 0,
    mesh: Mapping[str, int] | None = None,
    partition: str | Sequence = partitioning.DEFAULT,
    microbatches: int = 1,
    loss_chunk: int = 2048,
    z_loss: float = 0.0,
    max_skipped_steps: int = 10,
    log_period: int = 10,
    eval_period: int = 1000,
    eval_examples: int | None = None,
    checkpoint_period: int = 1000,
    keep_checkpoints: int | None = 3,
    keep_best_checkpoints: int = 1,
    summarize_config: Callable[[str], None] | None = None,
) -> dict[str, float]:
    """Trains a student, from the latest checkpoint in `model_dir` if there is one.

    One of several processes ends with one line when another is gone; see `peers.join`.

    Args:
      model: the student; its config may leave `vocab_size` open (None).
      model_dir: the run's folder, see `run_dir`.
      mixture_or_task_name: a registered name, such as `svamp_step_by_step`.
      task_feature_lengths: `{"inputs": …, "targets": …}` in tokens; the lengths of a packed row.
      vocabulary: `bytes`, a SentencePiece file, or `train:SIZE`; see `data.vocabularies`.
      optimizer: an optax optimizer.
      view_weights: weight of each view's mean loss, of `distill_jax.models.losses`.
      batch_size: rows of a global batch (packed rows, where `pack`).
      train_steps: updates in all, those before a restart included.
      objective: what is minimised, of `training.objectives`.
      teacher_checkpoint_path: a white-box teacher, where the objective needs one, given as
        `initial_checkpoint_path` is, with the student's vocabulary.
      teacher_top_k: the teacher runs once, and so many of its likeliest next tokens are kept in the records;
        None runs it beside the student.
      own_data: of `data.own.describe`: the user's files, registered as a task first.
      label_source: `gold` or `teacher`, what the label view is trained on.
      rationale_rate: rationales for each label in the records; None takes the task's.
      data_fraction: share of the training examples to use, nested and the same for every method.
      num_examples: or their number.
      filters: which of these to keep.
      pack: several examples to a row, kept apart by segment ids.
      data_dir: folder of the data sets; default the environment's DISTILL_JAX_DATA_DIR.
      teacher_name: folder of the teacher's completions in the paper's layout, `llm` unless named; `none`
        reads the rows alone.
      module: Python module that registers the task, where it is not one of ours.
      initial_checkpoint_path: a run's folder, one of its checkpoints, a T5X checkpoint or a Hugging Face
        folder; local, `gs://…` or `hf://ORG/NAME`.
      seed: of the parameters, the order of the data and the dropout.
      mesh: devices along `data`, `fsdp` and `model`; see `partitioning.mesh_sizes`.
      partition: what is spread over which of them, a preset or a table; see `partitioning.table`.
      microbatches: parts a batch is worked off in, to save memory.
      loss_chunk: tokens whose logits a shard of the batch holds at a time.
      z_loss: factor of `log(Z)**2` per token.
      max_skipped_steps: updates in a row that may be skipped because something was not finite.
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
      Preempted: when told to stop by SIGTERM, once everything is saved.
    """
    host_memory.keep_freed()
    distributed.initialize(model_dir)
    sources.use(data_dir, teacher_name)
    place = partitioning.make_partitioner(model.config, batch_size, microbatches, mesh, partition)
    with registry.without_seqio():
        if own_data is not None:
            own.register_own(own_data)
        task, views = registry.resolve(mixture_or_task_name, label_source, module)
    check_views(mixture_or_task_name, views, view_weights)
    common = {
        "vocabulary": vocabulary,
        "task_feature_lengths": dict(task_feature_lengths),
        "pack": pack,
        "label_source": label_source,
        "rationale_rate": rationale_rate,
        "seed": seed,
        "module": module,
    }
    records = distributed.first_alone(
        lambda: prepare(
            mixture_or_task_name,
            "train",
            data_fraction=data_fraction,
            num_examples=num_examples,
            filters=filters,
            **common,
        )
    )
    vocabulary = load_vocabulary(records.vocabulary)
    common["vocabulary"] = records.vocabulary
    validation = None
    if eval_period:
        validation = distributed.first_alone(lambda: prepare(mixture_or_task_name, "validation", **common))
    model = with_vocabulary_size(model, vocabulary)
    partitioning.check_model(place, model.config, batch_size, microbatches)
    stores = objective.needs_teacher and teacher_top_k is not None
    if stores:

        def keep(records: Prepared) -> Prepared:
            path, temperature = teacher_checkpoint_path, objective.temperature
            return distributed.first_alone(
                lambda: store_top_k(records, path, teacher_top_k, temperature=temperature)
            )

        records, validation = keep(records), validation and keep(validation)
    teacher = None
    if objective.needs_teacher and not stores:
        objective, teacher = with_teacher(
            objective, teacher_checkpoint_path, vocabulary, batch_size, microbatches, place
        )
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
        teacher_name=teacher_name,
    )

    def claim() -> None:
        run_dir.claim(model_dir, run)
        if distributed.is_primary():
            vocabulary.save(model_dir)
            if summarize_config is not None:
                summarize_config(model_dir)

    distributed.first_alone(claim)
    checkpointer = Checkpointer(
        model_dir, keep=keep_checkpoints, keep_best=keep_best_checkpoints, metric="label_accuracy"
    )
    share, shares = place.rows()
    loader = Loader(records.path, batch_size, seed=seed, process_index=share, process_count=shares)
    state, shardings = start(model, optimizer, checkpointer, loader, initial_checkpoint_path, seed, place)
    train_step = distributed.compiled_together(
        make_train_step(
            model,
            optimizer,
            view_weights,
            objective=objective,
            seed=seed,
            microbatches=microbatches,
            loss_chunk=loss_chunk,
            z_loss=z_loss,
            shardings=shardings,
        )
    )
    eval_step = make_eval_step(model, view_weights, objective=objective, loss_chunk=loss_chunk)

    evaluator = Evaluator(
        model=model,
        vocabulary=vocabulary,
        task=task,
        views=views,
        task_feature_lengths=task_feature_lengths,
        batch_size=4 * batch_size,
        num_examples=eval_examples,
    )

    def validate(params) -> dict[str, float]:
        losses = _validation_losses(eval_step, params, teacher, validation.path, batch_size, place)
        return losses | evaluator(partitioning.local_copy(params), "validation")

    ids = example_ids(task, "train")
    guard = Guard(
        model_dir,
        max_skipped_steps,
        lambda step: ids(loader.examples(step - 1)),
        write=distributed.is_primary(),
    )
    return loop.run(
        state,
        loader,
        lambda state, batch: train_step(state, partitioning.put_batch(batch, place), teacher),
        checkpointer,
        guard,
        place,
        model_dir=model_dir,
        train_steps=train_steps,
        validate=validate if eval_period else None,
        log_period=log_period,
        eval_period=eval_period,
        checkpoint_period=checkpoint_period,
    )


def _validation_losses(eval_step, params, teacher, path, batch_size, place) -> dict[str, float]:
    """Per-view means over the validation split, by teacher forcing."""
    total = collections.Counter()
    share, shares = place.rows()
    loader = Loader(
        path,
        batch_size,
        seed=0,
        shuffle=False,
        num_epochs=1,
        pad_last=True,
        process_index=share,
        process_count=shares,
    )
    for batch in loader:
        with place.active():
            metrics = eval_step(params, partitioning.put_batch(batch, place), teacher)
        metrics = distributed.to_host(metrics)
        total.update({name: float(value) for name, value in metrics.items() if name != "loss"})
    return means(total)
