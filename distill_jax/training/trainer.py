"""A whole training run: build, resume or start, step, evaluate, checkpoint."""

import collections
import contextlib
import dataclasses
import functools
import logging
import os
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

import jax
import optax

from distill_jax.checkpoints import run_dir, trust, whole
from distill_jax.checkpoints.orbax import Checkpointer, latest_step
from distill_jax.config import PretrainConfig, TrainConfig
from distill_jax.data.loader import Batch, Loader
from distill_jax.data.prepare import Prepared
from distill_jax.errors import UserError
from distill_jax.models.families import Network, describe
from distill_jax.training import distributed, loop, methods, microbatches, partitioning, trackers
from distill_jax.training.build import Memory, Run, build
from distill_jax.training.header import header
from distill_jax.training.listener import Listener
from distill_jax.training.losses import Objective
from distill_jax.training.nonfinite import Guard
from distill_jax.training.partitioning import Partitioner
from distill_jax.training.programs import compiling, remembered
from distill_jax.training.start import example_ids, prepare, start, state_shapes
from distill_jax.training.step import make_eval_step, make_train_step, means

DECAYING = ("linear", "cosine")  # schedules that depend on the number of steps
log = logging.getLogger("distill_jax")


class Evaluator(Protocol):
    """What scores parameters beside the validation loss; `evaluation.evaluator` makes one."""

    def __call__(self, params: Any, split: str) -> dict[str, float]:
        """Metrics of a split; the parameters are on this host."""


def train(
    config: TrainConfig | PretrainConfig,
    *,
    model: Network | None = None,
    optimizer: optax.GradientTransformation | None = None,
    objective: Objective | None = None,
    evaluator: Callable[[Run], Evaluator] | None = None,
    planner: Callable[[Run], Memory] | None = None,
    listener: Listener | None = None,
) -> dict[str, float]:
    """Trains or pretrains a student, from the latest checkpoint in its folder if there is one.

    One of several processes ends when another is gone, as `distributed.initialize` says.

    Args:
      model: in place of the configuration's network.
      optimizer: in place of the configuration's optimizer and schedule.
      objective: in place of the method's loss.
      evaluator: makes, of the built run, what scores the validation split; None leaves it at the loss.
      planner: estimates the memory of the built run before anything is compiled, and refuses what does not fit.
      listener: is told of metrics, in the first process.

    Returns:
      The last training metrics, validation metrics (`validation/…`), `steps` and `seconds`.

    Raises:
      UserError: for anything the user can set right, before the first step where possible; also where another
        process trains in this folder.
      Preempted: when told to stop by SIGTERM or Ctrl-C, once everything is saved.
    """
    trackers.check(config)
    distributed.initialize()
    with contextlib.ExitStack() as stack:
        is_new = not os.path.isdir(config.model_dir)  # a run that cannot be built leaves no folder
        if not is_new and not config.trust:
            trust.require_plain(config.model_dir)
        if not is_new and distributed.is_primary():
            stack.enter_context(run_dir.owned(config.model_dir))
        run = build(config, model, optimizer, objective)
        if planner is not None:
            run = dataclasses.replace(run, memory=planner(run))
        if is_new and distributed.is_primary():
            stack.enter_context(run_dir.owned(config.model_dir))
        distributed.first_alone(lambda: claim(run))
        return fit(run, evaluator and evaluator(run), listener or Listener())


def claim(run: Run) -> None:
    """Makes the folder this run's, or checks that it is; sets damaged checkpoints aside; writes what it is.

    Raises:
      UserError: when the folder holds another run, or none of its checkpoints is whole.
    """
    config = run.config
    identity = run_dir.Run(
        mixture_or_task_name=run.name,
        label_source=config.label_source,
        module=config.module,
        task_feature_lengths=dict(config.task_feature_lengths),
        vocabulary=run.vocabulary.fingerprint,
        data=run.records.key,
        model=describe(run.model.config),
        batch_size=config.batch_size,
        seed=config.seed,
        view_weights=dict(run.view_weights),
        objective=repr(run.objective),
        teacher=config.teacher_checkpoint_path if run.objective.needs_teacher else None,
        own_data=run.own_data,
        teacher_name=config.teacher,
        lora=run.base and run.base.describe(),
    )
    run_dir.claim(config.model_dir, identity, config)
    if distributed.is_primary():
        whole.set_aside_damaged(config.model_dir, config.verify_checksums)
    _check_steps(config)
    if distributed.is_primary():
        run.vocabulary.save(config.model_dir)
        run_dir.write_config(config.model_dir, config)
        run_dir.write_data(config.model_dir, run.records.manifest)
        run_dir.write_header(config.model_dir, header(run, latest_step(config.model_dir) or 0))


def _check_steps(config: TrainConfig | PretrainConfig) -> None:
    """Tells of a schedule that other steps than before make jump; refuses it where it has ended."""
    before = (run_dir.read_config(config.model_dir) or {}).get("train_steps")
    now, done = config.train_steps, latest_step(config.model_dir)
    if config.schedule not in DECAYING or before in (None, now) or done is None:
        return
    if done >= before < now:
        raise UserError(
            f"{config.model_dir}: the run has ended: its {config.schedule} learning rate fell to 0 at step "
            f"{before}, and {now} steps would raise it again: train on in another folder, with "
            f"--init {config.model_dir} --model-dir NEW"
        )
    schedules = [methods.make_schedule(dataclasses.replace(config, train_steps=n)) for n in (before, now)]
    old, new = (float(schedule(done)) for schedule in schedules)
    text = "%s was %d, now %d: the %s learning rate after step %d is %g instead of %g"
    log.warning(text, config.named("train_steps"), before, now, config.schedule, done, new, old)


def fit(run: Run, evaluator: Evaluator | None, listener: Listener) -> dict[str, float]:
    """Steps a built run to its end; returns and raises what `train` does."""
    config, place = run.config, run.place
    kept = {"keep": config.keep_checkpoints, "keep_best": config.keep_best_checkpoints}
    checkpointer = Checkpointer(config.model_dir, **kept)
    with contextlib.closing(_loader(run, run.records, seed=config.seed)) as loader:
        compiled = _compiled_step(run, loader)
        if (latest_step(config.model_dir) or 0) < config.train_steps:
            prepare(run)  # its program is read from the cache while the step is traced
            compiled()  # meanwhile the state is made or read
        state = start(run, checkpointer, loader)
        train_step = distributed.called_together(lambda: compiled().result())
        beside = (run.teacher, run.base and run.base.params)

        def put(batch: Batch) -> dict[str, jax.Array]:
            batch = microbatches.padded(batch, loader.empty_row, run.microbatches)
            return partitioning.put_batch(batch, place)

        ids = example_ids(run.task, "train")
        folder, limit = config.model_dir, config.max_skipped_steps
        guard = Guard(
            folder, limit, lambda step: ids(loader.examples(step - 1)), write=distributed.is_primary()
        )
        return loop.Loop(
            state=state,
            start=latest_step(config.model_dir) or 0,  # whose checkpoint was whole; waits for no computation
            loader=loader,
            train_step=lambda state, batch: train_step(state, put(batch), *beside),
            checkpointer=checkpointer,
            guard=guard,
            place=place,
            config=config,
            validate=_validation(run, evaluator) if config.eval_period else None,
            best_by=run.task.best_by,
            listener=listener,
            built=run,
        ).run()


def _compiled_step(run: Run, loader: Loader) -> Callable[[], Future]:
    """What gives the run's train step, once it is compiled: that is begun at the first call."""
    config, place = run.config, run.place
    options = {name: getattr(config, name) for name in ("seed", "loss_chunk", "z_loss")}
    options["microbatches"] = run.microbatches
    weights = tuple(run.view_weights.items())
    step = _train_step(place, run.model, run.optimizer, weights, run.objective, run.lora, **options)
    state = place.shapes(state_shapes(run.model, run.optimizer, run.lora), run.model, run.lora)
    rows = microbatches.divisible(config.batch_size, run.microbatches)
    batch = partitioning.batch_shapes(loader.empty_row, rows, place)
    beside = jax.tree.map(_shape, (run.teacher, run.base and run.base.params))
    leaves, structure = jax.tree.flatten((state, batch, *beside))
    return functools.partial(_compiling, step, place, tuple(leaves), structure)


def _shape(x: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)


@remembered
def _compiling(step: Callable, place: Partitioner, leaves, structure) -> Future:
    with place.active():
        return compiling(step.lower(*jax.tree.unflatten(structure, leaves)))


@remembered
def _train_step(place: Partitioner, model, optimizer, view_weights, objective, lora, **options) -> Callable:
    options["shardings"] = place.state(state_shapes(model, optimizer, lora), model, lora)
    return make_train_step(model, optimizer, dict(view_weights), objective=objective, lora=lora, **options)


@remembered
def _eval_step(place: Partitioner, model, view_weights, objective, loss_chunk: int) -> Callable:
    del place  # under whose rules it is traced
    return make_eval_step(model, dict(view_weights), objective=objective, loss_chunk=loss_chunk)


def _loader(run: Run, records: Prepared, **options) -> Loader:
    """Batches of this host's rows."""
    share, shares = run.place.rows()
    options |= {"process_index": share, "process_count": shares}
    return Loader(records.path, run.config.batch_size, **options)


def _validation(run: Run, evaluator: Evaluator | None) -> Callable[[Any], dict[str, float]]:
    """(parameters) -> the scores of the validation split."""
    weights = tuple(run.view_weights.items())
    eval_step = _eval_step(run.place, run.model, weights, run.objective, run.config.loss_chunk)
    merge = None
    if run.lora is not None:
        merge = jax.jit(run.lora.merge, out_shardings=run.place.params(run.model))

    def validate(params: Any) -> dict[str, float]:
        params = params if merge is None else merge(run.base.params, params)
        scores = {} if run.validation is None else _validation_losses(run, eval_step, params)
        if evaluator is not None:
            scores |= evaluator(partitioning.local_copy(params), "validation")
        return scores

    return validate


def _validation_losses(run: Run, eval_step: Callable, params: Any) -> dict[str, float]:
    """Per-view means over the validation split, by teacher forcing."""
    total = collections.Counter()
    loader = _loader(run, run.validation, seed=0, shuffle=False, num_epochs=1, pad_last=True)
    with contextlib.closing(loader):
        for batch in loader:
            with run.place.active():
                metrics = eval_step(params, partitioning.put_batch(batch, run.place), run.teacher)
            metrics = distributed.to_host(metrics)
            total.update({name: float(value) for name, value in metrics.items() if name != "loss"})
    return means(total)
