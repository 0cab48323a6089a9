"""SeqIO's encoder-decoder features, with the view of each target token carried through packing."""

from collections.abc import Mapping

import seqio
import tensorflow as tf

from distill_jax.t5x.seqio_preprocessors import (
    CHOICES_FEATURE,
    PROBS_FEATURE,
    SOFT_FEATURES,
    TASK_IDS_FEATURE,
    WEIGHTS_FEATURE,
)

_Spec = seqio.FeatureConverter.FeatureSpec
_SEGMENTS = seqio.EncDecFeatureConverter.PACKING_FEATURE_DTYPES


class ViewFeatureConverter(seqio.EncDecFeatureConverter):
    """Adds `decoder_task_ids`, int32 [targets], from the `targets_task_ids` of our tasks.

    TASK_FEATURE_LENGTHS stays `{"inputs": …, "targets": …}`. Of soft labels, each label a row can have
    becomes a decoder segment of its own, as in `data.records.to_features`, and the features
    `decoder_cross_segment_ids` (int32) and `decoder_choice_probs` (float32) are added. A task that is
    none of ours is converted as SeqIO does: good for inference, not for training.
    """

    def _added_features(self, dataset: tf.data.Dataset) -> dict[str, _Spec]:
        added = {}
        if TASK_IDS_FEATURE in dataset.element_spec:
            added["decoder_task_ids"] = _Spec(dtype=tf.int32)
        if CHOICES_FEATURE in dataset.element_spec:
            added |= {name: _Spec(dtype=dtype) for name, dtype in _SEGMENTS.items()}
            added["decoder_cross_segment_ids"] = _Spec(dtype=tf.int32)
            added["decoder_choice_probs"] = _Spec(dtype=tf.float32)
        return added

    def _convert_features(
        self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
    ) -> tf.data.Dataset:
        # What a data set turns into depends on what it has; the base class reads the attribute after this.
        added = self._added_features(ds)
        self.MODEL_FEATURES = seqio.EncDecFeatureConverter.MODEL_FEATURES | added
        aligned = [name for name in (TASK_IDS_FEATURE, *SOFT_FEATURES) if name in ds.element_spec]
        lengths = dict(task_feature_lengths) | dict.fromkeys(aligned, task_feature_lengths["targets"])
        return super()._convert_features(ds, lengths)

    def _convert_example(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        converted = dict(super()._convert_example(features))
        if "decoder_task_ids" in self.MODEL_FEATURES:
            converted["decoder_task_ids"] = features[TASK_IDS_FEATURE]
        if "decoder_choice_probs" in self.MODEL_FEATURES:
            converted |= self._soft_features(features)
        return converted

    def _soft_features(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        inputs, targets = features["inputs"], features["targets"]
        converted = {}
        if self.pack:
            examples = features["targets_segment_ids"]
        else:
            examples = tf.cast(targets != 0, tf.int32)
            converted["encoder_segment_ids"] = tf.cast(inputs != 0, tf.int32)
            converted["encoder_positions"] = tf.range(tf.size(inputs)) * converted["encoder_segment_ids"]
        choices = features[CHOICES_FEATURE]
        before = tf.concat([[0], choices[:-1]], axis=0), tf.concat([[0], examples[:-1]], axis=0)
        starts = ((choices != before[0]) | (examples != before[1])) & (targets != 0)
        segments = tf.cumsum(tf.cast(starts, tf.int32)) * tf.cast(targets != 0, tf.int32)
        firsts = tf.cast(tf.where(starts)[:, 0], tf.int32)
        place = tf.range(tf.size(targets))
        positions = place - tf.gather(tf.concat([[0], firsts], axis=0), segments)
        probs = tf.bitcast(tf.maximum(features[PROBS_FEATURE] - 1, 0), tf.float32)
        return converted | {
            "decoder_input_tokens": seqio.utils.make_autoregressive_inputs(
                targets, sequence_id=segments, bos_id=self.bos_id
            ),
            "decoder_segment_ids": segments,
            "decoder_positions": tf.where(targets != 0, positions, 0),
            "decoder_cross_segment_ids": examples,
            "decoder_choice_probs": probs,
            "decoder_loss_weights": tf.cast(features[WEIGHTS_FEATURE] == 2, tf.int32),
        }

    def get_model_feature_lengths(self, task_feature_lengths: Mapping[str, int]) -> Mapping[str, int]:
        lengths = dict(super().get_model_feature_lengths(task_feature_lengths))
        for name in self.MODEL_FEATURES:
            side = "inputs" if name.startswith("encoder") else "targets"
            lengths.setdefault(name, task_feature_lengths[side])
        return lengths
