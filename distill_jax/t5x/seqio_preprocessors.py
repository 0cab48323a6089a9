"""SeqIO preprocessors: texts to tokens, and the features that go along with the targets.

`targets_task_ids`, and those of soft labels, are no output features: SeqIO's own feature converters do not see
them, ours (`distill_jax.t5x.feature_converter`) carries them on.
"""

from collections.abc import Mapping

import seqio
import tensorflow as tf

from distill_jax.data.views import TASK_IDS
from distill_jax.data.vocabularies import END

TASK_IDS_FEATURE = "targets_task_ids"
# Of soft labels; aligned with `targets`, and never 0, which packing takes for padding.
CHOICES_FEATURE = "targets_choices"  # number of the choice within its example, from 1
PROBS_FEATURE = "targets_choice_probs"  # bits of the float32, plus 1
WEIGHTS_FEATURE = "targets_choice_weights"  # 2 for the reference label, else 1
SOFT_FEATURES = (CHOICES_FEATURE, PROBS_FEATURE, WEIGHTS_FEATURE)


def _token_ids(vocabulary: seqio.Vocabulary, text: tf.Tensor) -> tf.Tensor:
    """Ids of a text, with the end token for each `</s>` in it."""

    def part_ids(part: tf.Tensor) -> tf.Tensor:
        return tf.concat([vocabulary.encode_tf(part), [vocabulary.eos_id]], axis=0)

    parts = tf.strings.split(tf.strings.join([text]), END)
    ragged = tf.map_fn(part_ids, parts, fn_output_signature=tf.RaggedTensorSpec([None], tf.int32, 0))
    return ragged.flat_values[:-1]


def tokenize(dataset: tf.data.Dataset, output_features: Mapping[str, seqio.Feature]) -> tf.data.Dataset:
    """SeqIO's `tokenize`, with the end token for each `</s>` of the text."""

    def row(texts: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        tokens = {name: _token_ids(each.vocabulary, texts[name]) for name, each in output_features.items()}
        return tokens | {f"{name}_pretokenized": texts[name] for name in output_features}

    return dataset.map(row, num_parallel_calls=tf.data.AUTOTUNE)


def tokenize_soft(dataset: tf.data.Dataset, output_features: Mapping[str, seqio.Feature]) -> tf.data.Dataset:
    """As `tokenize`; the targets are all labels of the example, each with its end token."""
    inputs_vocabulary, vocabulary = (output_features[name].vocabulary for name in ("inputs", "targets"))

    def row(texts: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        choices = tf.map_fn(
            lambda text: tf.concat([_token_ids(vocabulary, text), [vocabulary.eos_id]], axis=0),
            texts["choices"],
            fn_output_signature=tf.RaggedTensorSpec([None], tf.int32, 0),
        )
        place = tf.cast(choices.value_rowids(), tf.int32)
        bits = tf.bitcast(texts["probs"], tf.int32)
        return {
            "inputs": _token_ids(inputs_vocabulary, texts["inputs"]),
            "targets": choices.flat_values,
            CHOICES_FEATURE: place + 1,
            PROBS_FEATURE: tf.gather(bits, place) + 1,
            WEIGHTS_FEATURE: tf.where(place == texts["reference"], 2, 1),
            "inputs_pretokenized": texts["inputs"],
            "targets_pretokenized": texts["targets"],
        }

    return dataset.map(row, num_parallel_calls=tf.data.AUTOTUNE)


def check_room(dataset: tf.data.Dataset, sequence_length: Mapping[str, int] | None = None) -> tf.data.Dataset:
    """Stops at an example whose labels are together longer than a row: cut, they would mean nothing."""
    room = (sequence_length or {}).get("targets")
    if room is None:
        return dataset

    def row(features: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        length = tf.size(features["targets"])
        message = f"the labels of an example are longer than TASK_FEATURE_LENGTHS has for targets ({room})"
        with tf.control_dependencies([tf.debugging.assert_less_equal(length, room, message)]):
            return features | {"targets": tf.identity(features["targets"])}

    return dataset.map(row, num_parallel_calls=tf.data.AUTOTUNE)


def add_task_ids(dataset: tf.data.Dataset, *, view: str) -> tf.data.Dataset:
    """Adds `targets_task_ids`, as long as the targets have become."""

    def row(features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return features | {TASK_IDS_FEATURE: tf.fill(tf.shape(features["targets"]), TASK_IDS[view])}

    return dataset.map(row, num_parallel_calls=tf.data.AUTOTUNE)
