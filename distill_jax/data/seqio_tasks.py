"""The same tasks in SeqIO's registries: the one module that imports TensorFlow."""

import os
from collections.abc import Callable, Mapping
from functools import partial

import seqio
import tensorflow as tf

from distill_jax.data.registry import METHODS, DistillationTask
from distill_jax.data.views import View
from distill_jax.data.vocabularies import END


def vocabulary() -> seqio.Vocabulary:
    """Vocabulary of the registered tasks: bytes, or the file in DISTILL_JAX_SENTENCEPIECE."""
    path = os.environ.get("DISTILL_JAX_SENTENCEPIECE")
    return seqio.SentencePieceVocabulary(path) if path else seqio.ByteVocabulary()


def _dataset(split: str, shuffle_files: bool, seed: int | None = None, *, task, view: View):
    """The texts of a view as a `tf.data.Dataset`; examples without this target are left out."""
    del shuffle_files, seed  # one stream, in the order of the source

    def rows():
        for example in task.source.examples(split):
            texts = view(example)
            if texts is not None:
                yield {"inputs": texts[0], "targets": texts[1]}

    text = tf.TensorSpec((), tf.string)
    return tf.data.Dataset.from_generator(rows, output_signature={"inputs": text, "targets": text})


def _tokenize(dataset: tf.data.Dataset, output_features: Mapping[str, seqio.Feature]) -> tf.data.Dataset:
    """SeqIO's `tokenize`, with the end token for each `</s>` of the text."""

    def ids(name: str, text: tf.Tensor) -> tf.Tensor:
        vocabulary = output_features[name].vocabulary

        def part_ids(part: tf.Tensor) -> tf.Tensor:
            return tf.concat([vocabulary.encode_tf(part), [vocabulary.eos_id]], axis=0)

        parts = tf.strings.split(tf.strings.join([text]), END)
        ragged = tf.map_fn(part_ids, parts, fn_output_signature=tf.RaggedTensorSpec([None], tf.int32, 0))
        return ragged.flat_values[:-1]

    def row(texts: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        tokens = {name: ids(name, text) for name, text in texts.items()}
        return tokens | {f"{name}_pretokenized": text for name, text in texts.items()}

    return dataset.map(row, num_parallel_calls=tf.data.AUTOTUNE)


def _add_task(name: str, task: DistillationTask, view: View, postprocess: Callable | None) -> None:
    features: Mapping[str, seqio.Feature] = {
        feature: seqio.Feature(vocabulary(), add_eos=True) for feature in ("inputs", "targets")
    }
    fns = task.label_metric_fns if view.name == "label" else task.rationale_metric_fns
    seqio.TaskRegistry.add(
        name,
        source=seqio.FunctionDataSource(
            partial(_dataset, task=task, view=view), splits=tuple(task.source.splits)
        ),
        preprocessors=[_tokenize, seqio.preprocessors.append_eos_after_trim],
        output_features=features,
        postprocess_fn=postprocess,
        metric_fns=list(fns),
    )


def register(task: DistillationTask) -> None:
    """Adds a task's views and mixtures to SeqIO, unless they are there."""
    if f"{task.name}_label" in seqio.TaskRegistry.names():
        return
    for source, suffix in (("gold", ""), ("teacher", "_teacher")):
        for method in METHODS:
            views = task.views(method, source)
            is_label = len(views) == 1 and views[0].name == "label"
            if len(views) == 1 and (not suffix or method == "label"):
                postprocess = task.label_postprocess_fn if is_label else None
                _add_task(f"{task.name}_{method}{suffix}", task, views[0], postprocess)
        seqio.MixtureRegistry.add(
            f"{task.name}_step_by_step{suffix}",
            [(f"{task.name}_label{suffix}", 1.0), (f"{task.name}_rationale", task.rationale_rate)],
        )
