"""From a configuration to all that a run needs before its first step: data, network, loss, optimizer, mesh."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import optax

from distill_jax.checkpoints.orbax import latest_step
from distill_jax.checkpoints.reading import Checkpoint
from distill_jax.checkpoints.vocabulary import vocabulary_spec
from distill_jax.config import PretrainConfig, TrainConfig
from distill_jax.data.documents import spans_of
from distill_jax.data.prepare import Prepared, checked, prepare, require_label_probs, resolve_vocabulary
from distill_jax.data.row_lengths import row_lengths
from distill_jax.data.selection import Filters
from distill_jax.data.task import DistillationTask
from distill_jax.data.views import View
from distill_jax.data.vocabularies import Vocabulary, load_vocabulary
from distill_jax.errors import UserError
from distill_jax.models.families import Network
from distill_jax.models.lora import Lora
from distill_jax.tasks.resolve import resolve
from distill_jax.training import distributed, methods, microbatches, partitioning
from distill_jax.training.adapters import Base, check_base, load_base
from distill_jax.training.initial import check_start, load_teacher, open_start
from distill_jax.training.losses import Objective
from distill_jax.training.partitioning import Partitioner
from distill_jax.training.stored_logits import store_top_k

log = logging.getLogger("distill_jax")


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of a device: `step`, what a step takes, estimated; `free`, what is free before, None: not known."""

    step: int
    free: int | None


@dataclasses.dataclass(frozen=True)
class Run:
    """A run, built.

    Attributes:
      name: TASK_METHOD.
      own_data: the description of own files; None for a task.
      view_weights: weight of each view's mean loss.
      records: prepared training rows.
      validation: prepared validation rows; None where there are none.
      start: the checkpoint to start from; None from scratch, and where the run's folder has one to resume.
      model: the student's network, `vocab_size` filled in.
      objective: what is minimised, with the teacher's network where it needs one.
      teacher: parameters of the teacher beside the student; None without one.
      base: the model beneath adapters; None where all weights are trained.
      place: the mesh and what is sharded over it.
      microbatches: parts of a batch; where they do not divide it, it is padded.
      memory: of a step; None where nobody has estimated it.
    """

    config: TrainConfig | PretrainConfig
    name: str
    own_data: Mapping[str, Any] | None
    task: DistillationTask
    views: Sequence[View]
    view_weights: Mapping[str, float]
    records: Prepared
    validation: Prepared | None
    vocabulary: Vocabulary
    start: Checkpoint | None
    model: Network
    objective: Objective
    teacher: Any
    base: Base | None
    optimizer: optax.GradientTransformation
    place: Partitioner
    microbatches: int
    memory: Memory | None = None

    @property
    def lengths(self) -> Mapping[str, int]:
        """`{"inputs": …, "targets": …}` in tokens."""
        return self.config.task_feature_lengths

    @property
    def lora(self) -> Lora | None:
        """The adapters that are trained; None where all weights are."""
        return None if self.base is None else self.base.lora


def build(
    config: TrainConfig | PretrainConfig,
    model: Network | None = None,
    optimizer: optax.GradientTransformation | None = None,
    objective: Objective | None = None,
) -> Run:
    """Prepares the data and makes what `trainer.fit` needs.

    `model` (its `vocab_size` may be open, None), `optimizer` and `objective` replace the configuration's.

    Raises:
      UserError: for data, a teacher or a mesh that does not go together with the rest.
    """
    named = resolve(config)
    weights = methods.view_weights(config)
    _check_views(named.name, named.views, weights)
    _look_at(named.task, ["train", "validation"] if config.eval_period else ["train"], named.views)
    model = model or methods.make_model(config)
    check_base(config)
    rows = 0 if config.examples_per_batch else config.batch_size  # 0, for any mesh: the records decide
    split = config.microbatches or 1
    place = partitioning.make_partitioner(model.config, rows, split, config.mesh, config.partitioning)
    start, spec = _start(config, model)
    sentinels = spans_of(named.views, config.task_feature_lengths)
    spec = distributed.first_alone(
        lambda: resolve_vocabulary(spec, named.task, sentinels=sentinels, verify=config.verify_checksums)
    )
    vocabulary = load_vocabulary(spec)
    if start is not None:
        check_start(start, vocabulary)
    if config.task_feature_lengths is None:
        fitting = distributed.first_alone(lambda: row_lengths(named.task, named.views, vocabulary, config.pack))
        config = dataclasses.replace(config, task_feature_lengths=fitting)
    records, validation = _prepare(config, named.task, named.views, spec)
    require_label_probs(records.manifest)
    if config.examples_per_batch is not None:
        rows = batch_rows(config.examples_per_batch, records.manifest, place.batch_unit(split))
        config = dataclasses.replace(config, batch_size=rows)
    if (there := records.manifest["rows"]) < config.batch_size:
        label = config.named("batch_size" if config.examples_per_batch is None else "batch_examples")
        told = (
            "a batch of %d rows is larger than the data, %d rows: each is in it %.1f times on average; lower %s"
        )
        log.warning(told, config.batch_size, there, config.batch_size / there, label)
    steps = config.steps_of(there)
    config = dataclasses.replace(config, train_steps=steps, epochs=None)  # as config.json is to have it
    model = with_vocabulary_size(model, vocabulary)
    partitioning.check_model(place, model.config, config.batch_size, split)
    tokens = sum(config.task_feature_lengths.values())
    objective = objective or methods.make_objective(config)
    teacher = None
    if objective.needs_teacher and config.teacher_top_k is not None:
        records, validation = (
            part and _with_stored_logits(config, objective, model, part) for part in (records, validation)
        )
    elif objective.needs_teacher:
        teacher_model, params = load_teacher(
            config.teacher_checkpoint_path, vocabulary, config.verify_checksums
        )
        partitioning.check_model(place, teacher_model.config, config.batch_size, split)
        objective = dataclasses.replace(objective, teacher_model=teacher_model)
        teacher = partitioning.put(params, place.params(teacher_model))
    return Run(
        config=config,
        **vars(named),  # name, task, views, own_data
        view_weights=weights,
        records=records,
        validation=validation,
        vocabulary=vocabulary,
        start=start,
        model=model,
        objective=objective,
        teacher=teacher,
        base=load_base(config, model, start, vocabulary, place),
        optimizer=optimizer or methods.make_optimizer(config),
        place=place,
        microbatches=microbatches.of_run(config.microbatches, config.batch_size, tokens, place),
    )


def _look_at(task: DistillationTask, splits: Sequence[str], views: Sequence[View]) -> None:
    """Reads the first row of each split: a wrong file or column is told of before anything is fetched."""
    for split in splits:
        next(checked(enumerate(task.source.examples(split)), task, split, views), None)


def _start(config: TrainConfig | PretrainConfig, model: Network) -> tuple[Checkpoint | None, str]:
    """The checkpoint to start from, where there is one and the run does not resume; and the vocabulary."""
    resumes, path = latest_step(config.model_dir) is not None, config.start
    if resumes and config.vocabulary is None:
        return None, config.model_dir
    opened = None
    if path is not None and not resumes:
        opened = distributed.first_alone(lambda: open_start(path, model, config.verify_checksums))
    spec = distributed.first_alone(lambda: vocabulary_spec(config.vocabulary, path, opened))
    if path is None and not resumes and distributed.is_primary():
        asked = config.initial_checkpoint_path is not None  # else the model is one that has no checkpoint
        log.log(
            logging.WARNING if asked else logging.INFO,
            "FROM SCRATCH: nothing is pretrained; learning rate %g, vocabulary %s",
            config.peak_learning_rate,
            spec,
        )
    return opened, spec


def _prepare(
    config: TrainConfig | PretrainConfig, task: DistillationTask, views: Sequence[View], vocabulary: str
) -> tuple[Prepared, Prepared | None]:
    """The training rows, and the validation rows where there are any to evaluate on."""
    common = {"task_feature_lengths": config.task_feature_lengths, "pack": config.pack, "seed": config.seed}
    common["verify"] = config.verify_checksums
    records = distributed.first_alone(
        lambda: prepare(
            task,
            views,
            "train",
            vocabulary=vocabulary,
            data_fraction=config.data_fraction,
            num_examples=config.num_examples,
            filters=Filters(**config.filters),
            **common,
        )
    )
    if not config.eval_period:
        return records, None
    validation = distributed.first_alone(
        lambda: prepare(task, views, "validation", vocabulary=records.vocabulary, **common)
    )
    return records, validation if validation.manifest["rows"] else None


def batch_rows(examples: int, manifest: Mapping[str, Any], unit: int) -> int:
    """The rows of a batch that hold `examples` of prepared records on average: a multiple of `unit`, or one.

    An example is one (inputs, targets) pair for each view, as in the reference code, whose batch of 64 has 64
    labels and, step by step, as many rationales. So an epoch has as many steps as there.
    """
    in_a_row = max(manifest["with_target"].values()) / manifest["rows"]
    rows = max(1, round(examples / in_a_row / unit)) * unit
    held = rows * in_a_row
    level = logging.WARNING if abs(held - examples) > 0.05 * examples else logging.INFO
    label = TrainConfig.named("batch_examples")
    log.log(level, "%s %d: batches of %d rows hold %.1f examples on average", label, examples, rows, held)
    return rows


def _with_stored_logits(
    config: TrainConfig, objective: Objective, model: Network, records: Prepared
) -> Prepared:
    """The records with the teacher's likeliest next tokens, among the ids of the student's network."""
    teacher = config.teacher_checkpoint_path, config.teacher_top_k
    options = {"vocab_size": model.config.vocab_size, "temperature": objective.temperature}
    options["verify"] = config.verify_checksums
    return distributed.first_alone(lambda: store_top_k(records, *teacher, **options))


def with_vocabulary_size(model: Network, vocabulary: Vocabulary) -> Network:
    """The network with as many ids as the vocabulary needs, where its config leaves the number open.

    The number is rounded up to a multiple of 128, which is what matrix units like.

    Raises:
      UserError: when the config's number is smaller than the vocabulary, or its padding is a token there.
    """
    config = model.config
    if vocabulary.pad_id is None and config.pad_id == 0:
        raise UserError(
            f"{TrainConfig.named('model_family')} {config.family} takes id 0 for padding, which is a token of "
            "this vocabulary: give one of T5's kind, or a decoder-only model"
        )
    if config.vocab_size is None:
        rounded = -(-vocabulary.vocab_size // 128) * 128
        return model.clone(config=dataclasses.replace(config, vocab_size=rounded))
    if config.vocab_size < vocabulary.vocab_size:
        raise UserError(
            f"{TrainConfig.named('vocab_size')} is {config.vocab_size}, but the vocabulary has "
            f"{vocabulary.vocab_size} ids"
        )
    return model


def _check_views(name: str, views: Sequence[View], view_weights: Mapping[str, float]) -> None:
    """Raises UserError unless the method weighs the mixture's views."""
    names, weighed = {view.name for view in views}, set(view_weights)
    if names != weighed:
        raise UserError(
            f"{TrainConfig.named('mixture_or_task_name')} {name!r} has the views {sorted(names)}, but the "
            f"recipe weighs {sorted(weighed)}: take the recipe of the same method"
        )
