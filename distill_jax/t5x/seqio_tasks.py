"""The same tasks in SeqIO's registries: with the other `seqio_` modules the only code that imports TensorFlow.

Beside `inputs` and `targets` a task's data set has `targets_task_ids`, the view's number at each target
token; see `seqio_preprocessors`.
"""

import fractions
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import seqio
import tensorflow as tf

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
from distill_jax.tasks.registry import METHODS, DistillationTask

_SCORED_BY = {
    "task_distillation": "standard",
    "soft_labels": "standard",
    "logit_distillation": "step_by_step",
}

_vocabulary: seqio.Vocabulary | None = None
_registered: dict[str, tuple] = {}  # name -> arguments of `_add_method`


def vocabulary() -> seqio.Vocabulary:
    """Vocabulary of the registered tasks: `use_vocabulary`'s, else DISTILL_JAX_SENTENCEPIECE's, else bytes."""
    if _vocabulary is not None:
        return _vocabulary
    path = os.environ.get("DISTILL_JAX_SENTENCEPIECE")
    return seqio.SentencePieceVocabulary(path) if path else seqio.ByteVocabulary()


def _seqio_vocabulary(spec: str) -> seqio.Vocabulary:
    """SeqIO's own reader for what `load_vocabulary` reads; files on `gs://` are read by TensorFlow."""
    if spec.startswith("gs://"):
        return seqio.SentencePieceVocabulary(spec)
    loaded = load_vocabulary(spec)
    if isinstance(loaded, ByteVocabulary):
        return seqio.ByteVocabulary()
    path = pathlib.Path(spec)
    return seqio.SentencePieceVocabulary(str(path / "vocabulary.model" if path.is_dir() else path))


def use_vocabulary(spec: str | seqio.Vocabulary) -> seqio.Vocabulary:
    """Gives the tasks their vocabulary: those registered from now on, and those that are.

    Args:
      spec: SeqIO's own, or `bytes`, a SentencePiece file, or a folder that `train` or `prepare` wrote.

    Returns:
      SeqIO's vocabulary, for the model.

    Raises:
      UserError: when it cannot be read.
    """
    global _vocabulary
    chosen = _seqio_vocabulary(spec) if isinstance(spec, str) else spec
    if chosen != vocabulary():
        _vocabulary = chosen
        for name in _registered:
            for provider in (seqio.MixtureRegistry, seqio.TaskRegistry):
                if name in provider.names():
                    provider.remove(name)
        for task, method, source, ending, subset in list(_registered.values()):
            _add_method(task, method, source, ending, **subset)
    return chosen


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
        """See `seqio.Mixture.get_dataset`."""
        kept = [*(passthrough_features or ()), TASK_IDS_FEATURE]
        return super().get_dataset(*args, passthrough_features=kept, **kwargs)


def _read_view(text: str, example=None, is_target: bool = False, *, task: DistillationTask, view: View):
    """Postprocess function of a target that holds rationale and label."""
    said = view.read(text)
    if task.label_postprocess_fn is not None:
        said["label"] = task.label_postprocess_fn(said["label"], example=example, is_target=is_target)
    return said


def _score_views(targets, predictions, *, task: DistillationTask) -> dict[str, float]:
    """Metric function of the same: label and rationale each by their own."""
    scores: dict[str, float] = {}
    for name, fns in (("label", task.label_metric_fns), ("rationale", task.rationale_metric_fns)):
        for fn in fns:
            scores |= fn([t[name] for t in targets], [p[name] for p in predictions])
    return scores


def _add_task(name: str, task: DistillationTask, view: View, **subset) -> None:
    features: Mapping[str, seqio.Feature] = {
        feature: seqio.Feature(vocabulary(), add_eos=not (view.soft and feature == "targets"))
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


def _metric_of_views(task: DistillationTask) -> Callable:
    # SeqIO asks a metric function for its name and for exactly these two parameters.
    def label_and_rationale(targets, predictions):
        return _score_views(targets, predictions, task=task)

    return label_and_rationale


def _add_method(task: DistillationTask, method: str, source: str, ending: str, **subset) -> None:
    """Registers `<task>_<method><ending>`: a task, or a mixture of the tasks of its views."""
    _registered.setdefault(f"{task.name}_{method}{ending}", (task, method, source, ending, subset))
    views = task.views(method, source)
    if len(views) == 1:
        name = f"{task.name}_{method}{ending}"
        if name not in seqio.TaskRegistry.names():
            _add_task(name, task, views[0], **subset)
        return
    parts = []
    for view in views:
        own = ending if subset or view.name == "label" else ""  # rationales are the teacher's anyway
        _add_method(task, view.name, source, own, **subset)
        parts.append((f"{task.name}_{view.name}{own}", view.rate))
    name = f"{task.name}_{method}{ending}"
    if name not in seqio.MixtureRegistry.names():
        seqio.MixtureRegistry.add(name, parts, mixture_cls=ViewMixture, sample_fn=in_turn)


def register(task: DistillationTask) -> None:
    """Adds a task's views and mixtures to SeqIO, unless they are there."""
    for method in METHODS:
        if method != SHARED:
            _add_method(task, method, "gold", "")
    for method in ("label", "step_by_step"):
        _add_method(task, method, "teacher", "_teacher")


def select(
    mixture_or_task_name: str,
    *,
    module: str | None = None,
    label_source: str = "gold",
    data_fraction: float = 1.0,
    num_examples: int | None = None,
    seed: int = 0,
) -> str:
    """The name under which SeqIO knows a task or mixture with these of our options; registers it.

    The examples are the same as `prepare` takes for the same options.

    Args:
      mixture_or_task_name: one of ours such as `svamp_step_by_step`, or any of SeqIO's where the other
        options are left alone.
      module: that registers it.
      label_source: gold or teacher.
      data_fraction: share of the train split to take.
      num_examples: or their number.
      seed: of which ones these are.

    Raises:
      UserError: when there is no such task, method or label source.
    """
    if module is not None:
        registry.import_module(module)
    if mixture_or_task_name.endswith(f"_{SHARED}"):
        raise UserError(f"{mixture_or_task_name}: only our own engine shares the encoding; take step_by_step")
    everything = data_fraction == 1.0 and num_examples is None
    if label_source == "gold" and everything:
        return mixture_or_task_name
    if not 0.0 < data_fraction <= 1.0:
        raise UserError(f"DATA_FRACTION must lie in (0, 1], got {data_fraction}")
    task, _ = registry.resolve(mixture_or_task_name, label_source)
    method = mixture_or_task_name.removeprefix(f"{task.name}_")
    if method.endswith("_teacher"):
        method, label_source = method.removesuffix("_teacher"), "teacher"
    ending, subset = "_teacher" if label_source == "teacher" else "", {}
    if not everything:
        share_name = f"{num_examples}" if num_examples is not None else f"{data_fraction:.6f}".rstrip("0")
        ending += f".{share_name}.seed{seed}"
        subset = {"fraction": data_fraction, "count": num_examples, "seed": seed}
    _add_method(task, method, label_source, ending, **subset)
    return f"{task.name}_{method}{ending}"


def select_for_evaluation(mixture_or_task_name: str, *, module: str | None = None) -> str:
    """The name of the task or mixture that scores a student of another: by gold labels, whatever it read.

    So our own engine scores it. What is none of ours keeps its name.
    """
    if module is not None:
        registry.import_module(module)
    if mixture_or_task_name not in _registered:
        return mixture_or_task_name
    task, method, *_ = _registered[mixture_or_task_name]
    return f"{task.name}_{_SCORED_BY.get(method, method)}"
