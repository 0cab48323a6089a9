"""The registered tasks in SeqIO's registries, by one explicit call: `register`.

With the other `seqio_` modules this is the only code that imports TensorFlow. Beside `inputs` and `targets` a
task's data set has `targets_task_ids`, the view's number at each target token; see `seqio_preprocessors`.
"""

import fractions
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import seqio
import tensorflow as tf

from distill_jax.config.start import T5_VOCABULARY
from distill_jax.data.task import LABEL_SOURCES, METHODS, DistillationTask
from distill_jax.data.views import SHARED, View
from distill_jax.data.vocabularies import ByteVocabulary, SentencePieceVocabulary, Vocabulary, load_vocabulary
from distill_jax.errors import UserError
from distill_jax.t5x.seqio_preprocessors import (
    TASK_IDS_FEATURE,
    add_task_ids,
    check_room,
    tokenize,
    tokenize_soft,
)
from distill_jax.t5x.seqio_source import ExampleSource
from distill_jax.tasks import registry
from distill_jax.tasks.definition import import_module

_SCORED_BY = {"task_distillation": "standard", "soft_labels": "standard", "logit_distillation": "step_by_step"}
_ALL = "distill_jax.t5x.tasks"  # adds every task; a run adds its own alone, with its vocabulary


def register(
    tasks: Iterable[DistillationTask] | None = None, vocabulary: str | seqio.Vocabulary | None = None
) -> seqio.Vocabulary:
    """Adds the views and mixtures of tasks to SeqIO; what is there already stays as it is.

    Args:
      tasks: default all of our registry, shipped and registered.
      vocabulary: see `seqio_vocabulary`; default that of the tasks which SeqIO has from here, else
        DISTILL_JAX_SENTENCEPIECE, else bytes.

    Returns:
      The vocabulary.

    Raises:
      UserError: when a task is in SeqIO with another vocabulary: SeqIO has one of a name in a process.
    """
    if tasks is None:
        tasks = [registry.get_task(name) for name in registry.task_names()]
    if vocabulary is None:
        there = next((vocabulary_of(name) for name in seqio.TaskRegistry.names() if task_of(name)), None)
        vocabulary = there or os.environ.get("DISTILL_JAX_SENTENCEPIECE") or "bytes"
    chosen = seqio_vocabulary(vocabulary)
    for task in tasks:
        for method in METHODS:
            if method != SHARED:
                _add_method(task, method, "reference", "", chosen)
        for method in ("label", "step_by_step"):
            _add_method(task, method, "teacher", "_teacher", chosen)
    return chosen


def seqio_vocabulary(spec: str | seqio.Vocabulary | None) -> seqio.Vocabulary:
    """SeqIO's own reader for what `load_vocabulary` reads; files on `gs://` are read by TensorFlow.

    Args:
      spec: SeqIO's own, or `bytes`, a SentencePiece file, or a folder that `train` or `prepare` wrote; None is
        T5's.

    Raises:
      UserError: when it cannot be read.
    """
    spec = T5_VOCABULARY if spec is None else spec
    if not isinstance(spec, str):
        return spec
    if spec.startswith("gs://"):
        return seqio.SentencePieceVocabulary(spec)
    loaded = load_vocabulary(spec)
    if isinstance(loaded, ByteVocabulary):
        return seqio.ByteVocabulary()
    path = pathlib.Path(spec)
    return seqio.SentencePieceVocabulary(str(path / "vocabulary.model" if path.is_dir() else path))


def _is_registered(name: str) -> bool:
    return name in seqio.TaskRegistry.names() or name in seqio.MixtureRegistry.names()


def task_of(name: str) -> DistillationTask | None:
    """The task that a name of SeqIO's was made of; None for one that is not ours, or unknown."""
    if not _is_registered(name):
        return None
    provider = seqio.get_mixture_or_task(name)
    source = (provider.tasks[0] if isinstance(provider, seqio.Mixture) else provider).source
    return source.task if isinstance(source, ExampleSource) else None


def vocabulary_of(name: str) -> seqio.Vocabulary:
    """The vocabulary of one of SeqIO's tasks or mixtures."""
    return seqio.get_mixture_or_task(name).output_features["targets"].vocabulary


def own_vocabulary(vocabulary: seqio.Vocabulary) -> Vocabulary:
    """Ours, of the same ids as one of SeqIO's."""
    if isinstance(vocabulary, seqio.ByteVocabulary):
        return ByteVocabulary()
    path = vocabulary.sentencepiece_model_file
    with tf.io.gfile.GFile(path, "rb") as file:
        return SentencePieceVocabulary(file.read(), vocabulary.extra_ids, f"vocabulary {path}")


def turns(rates: Sequence[float]) -> list[int]:
    """One round of taking turns, as numbers of the data sets: as often as the rates say, evenly spread."""
    shares = [fractions.Fraction(rate).limit_denominator(1000) for rate in rates]
    common = math.lcm(*(share.denominator for share in shares))
    counts = [int(share * common) for share in shares]
    counts = [count // math.gcd(*counts) for count in counts]
    places = [((n + 0.5) / count, number) for number, count in enumerate(counts) for n in range(count)]
    return [number for _, number in sorted(places)]


def in_turn(datasets: Sequence[tf.data.Dataset], rates: Sequence[float], seed: int | None) -> tf.data.Dataset:
    """Takes examples of the data sets in turn, for a `seqio.Mixture`.

    SeqIO's own sampling draws at random: the counts of the views would differ from batch to batch.
    """
    del seed
    order = tf.data.Dataset.from_tensor_slices(tf.constant(turns(rates), tf.int64)).repeat()
    return tf.data.Dataset.choose_from_datasets(datasets, order, stop_on_empty_dataset=True)


class ViewMixture(seqio.Mixture):
    """A mixture that keeps `targets_task_ids`, which SeqIO's drops as no output feature."""

    def get_dataset(self, *args, passthrough_features: Sequence[str] | None = None, **kwargs):
        kept = [*(passthrough_features or ()), TASK_IDS_FEATURE]
        return super().get_dataset(*args, passthrough_features=kept, **kwargs)


def _read_view(text: str, example=None, is_target: bool = False, *, task: DistillationTask, view: View):
    """Postprocess function of a target that holds rationale and label."""
    said = view.read(text)
    if task.label_postprocess_fn is not None:
        said["label"] = task.label_postprocess_fn(said["label"], example=example, is_target=is_target)
    return said


def _metric_of_views(task: DistillationTask) -> Callable:
    """Metric function of the same: label and rationale each by their own."""

    # SeqIO asks a metric function for its name and for exactly these two parameters.
    def label_and_rationale(targets, predictions):
        scores: dict[str, float] = {}
        for name, fns in (("label", task.label_metric_fns), ("rationale", task.rationale_metric_fns)):
            for fn in fns:
                scores |= fn([t[name] for t in targets], [p[name] for p in predictions])
        return scores

    return label_and_rationale


def _add_task(name: str, task: DistillationTask, view: View, vocabulary: seqio.Vocabulary, **subset) -> None:
    features: Mapping[str, seqio.Feature] = {
        feature: seqio.Feature(vocabulary, add_eos=not (view.soft and feature == "targets"))
        for feature in ("inputs", "targets")
    }
    postprocess, fns = None, list(task.rationale_metric_fns)
    if view.name == "label":
        postprocess, fns = task.label_postprocess_fn, list(task.label_metric_fns)
    elif view.answer:
        postprocess = partial(_read_view, task=task, view=view)
        fns = [_metric_of_views(task)]
    seqio.TaskRegistry.add(
        name,
        source=ExampleSource(task, view, **subset),
        preprocessors=[
            tokenize_soft if view.soft else tokenize,
            seqio.CacheDatasetPlaceholder(),
            seqio.preprocessors.append_eos_after_trim,
            *([check_room] if view.soft else []),
            partial(add_task_ids, view=view.name),
        ],
        output_features=features,
        postprocess_fn=postprocess,
        metric_fns=fns,
    )


def _add_method(
    task: DistillationTask, method: str, source: str, ending: str, vocabulary: seqio.Vocabulary, **subset
) -> None:
    """Adds `<task>_<method><ending>`, unless it is there: a task, or a mixture of the tasks of its views."""
    name = f"{task.name}_{method}{ending}"
    if _is_registered(name):
        if task_of(name) is None:
            raise UserError(f"SeqIO has another task {name!r}: choose another name for {task.name!r}")
        if vocabulary_of(name) != vocabulary:
            raise UserError(
                f"the task {name!r} is in SeqIO with another vocabulary, {vocabulary_of(name)}, "
                f"not {vocabulary}: register it once in a process, with the vocabulary of the run"
            )
        return
    views = task.views(method, source)
    if len(views) == 1:
        _add_task(name, task, views[0], vocabulary, **subset)
        return
    parts = []
    for view in views:
        own = ending if subset or view.name == "label" else ""  # rationales are the teacher's anyway
        _add_method(task, view.name, source, own, vocabulary, **subset)
        parts.append((f"{task.name}_{view.name}{own}", view.rate))
    seqio.MixtureRegistry.add(name, parts, mixture_cls=ViewMixture, sample_fn=in_turn)


def select(
    mixture_or_task_name: str,
    *,
    module: str | None = None,
    vocabulary: str | seqio.Vocabulary | None = None,
    label_source: str = "reference",
    data_fraction: float = 1.0,
    num_examples: int | None = None,
    seed: int = 0,
) -> str:
    """The name under which SeqIO has a task or mixture with these of our options; adds it where it is ours.

    The examples are the same as `prepare` takes for the same options.

    Args:
      mixture_or_task_name: one of ours such as `svamp_step_by_step`, or any of SeqIO's where the other
        options are left alone.
      module: that registers it.
      vocabulary: see `register`.
      label_source: reference or teacher.
      data_fraction, num_examples, seed: of the train split; see `data.selection.share`.

    Raises:
      UserError: when there is no such task, method or label source, and for a method that T5X cannot train.
    """
    if mixture_or_task_name.endswith(f"_{SHARED}"):
        raise UserError(f"{mixture_or_task_name}: only our own engine shares the encoding; take step_by_step")
    task = _add(mixture_or_task_name, module, vocabulary)
    everything = data_fraction == 1.0 and num_examples is None
    if label_source == "reference" and everything:
        return mixture_or_task_name
    if label_source not in LABEL_SOURCES:
        raise UserError(f"LABEL_SOURCE {label_source!r}: expected {' or '.join(LABEL_SOURCES)}")
    if not 0.0 < data_fraction <= 1.0:
        raise UserError(f"DATA_FRACTION must lie in (0, 1], got {data_fraction}")
    if task is None:
        raise UserError(f"{mixture_or_task_name}: LABEL_SOURCE and DATA_FRACTION need a task of our registry")
    method = _method(mixture_or_task_name, task)
    if mixture_or_task_name.endswith("_teacher"):
        label_source = "teacher"
    ending, subset = "_teacher" if label_source == "teacher" else "", {}
    if not everything:
        share_name = f"{num_examples}" if num_examples is not None else f"{data_fraction:.6f}".rstrip("0")
        ending += f".{share_name}.seed{seed}"
        subset = {"fraction": data_fraction, "count": num_examples, "seed": seed}
    _add_method(task, method, label_source, ending, vocabulary_of(mixture_or_task_name), **subset)
    return f"{task.name}_{method}{ending}"


def select_for_evaluation(
    mixture_or_task_name: str, *, module: str | None = None, vocabulary: str | seqio.Vocabulary | None = None
) -> str:
    """The name of the task or mixture that scores a student of another: by reference labels, whatever it read.

    So our own engine scores it. What is none of ours keeps its name.
    """
    task = _add(mixture_or_task_name, module, vocabulary)
    if task is None:
        return mixture_or_task_name
    method = _method(mixture_or_task_name, task)
    return f"{task.name}_{_SCORED_BY.get(method, method)}"


def _add(name: str, module: str | None, vocabulary: str | seqio.Vocabulary | None) -> DistillationTask | None:
    """Imports the module and adds the task of that name to SeqIO; None where the name is SeqIO's own."""
    if module is not None and module != _ALL:
        import_module(module)
    task = task_of(name) if _is_registered(name) else registry.resolve(name)[0]
    if task is not None:
        register([task], vocabulary)
    return task


def _method(name: str, task: DistillationTask) -> str:
    rest = name.removeprefix(f"{task.name}_")
    return max((method for method in METHODS if rest.startswith(method)), key=len)
