"""The view of each target token, from our tasks through SeqIO's packing."""

import numpy as np
import pytest

seqio = pytest.importorskip("seqio")
pytestmark = pytest.mark.slow  # TensorFlow takes seconds to import

from distill_jax.data.views import TASK_IDS  # noqa: E402
from distill_jax.t5x.feature_converter import ViewFeatureConverter  # noqa: E402

LENGTHS = {"inputs": 70, "targets": 50}


def rows(name, converter, count, lengths=LENGTHS):
    dataset = seqio.get_mixture_or_task(name).get_dataset(lengths, "train", shuffle=False, num_epochs=1)
    return list(converter(dataset, lengths).take(count).as_numpy_iterator())


def view_of(tokens):
    text = seqio.ByteVocabulary().decode(tokens.tolist())
    return TASK_IDS["rationale" if " make " in text or "make" in text else "label"]


def test_packed_rows_keep_the_view_of_each_segment(counting):
    """Each decoder segment has one id, that of its text; padding has 0; the rest is as SeqIO packs it."""
    found = rows("counting_step_by_step", ViewFeatureConverter(pack=True), 12)
    several = 0
    for row in found:
        segments = row["decoder_segment_ids"]
        np.testing.assert_array_equal(row["decoder_task_ids"] > 0, row["decoder_target_tokens"] > 0)
        assert segments.max() == row["encoder_segment_ids"].max()
        for segment in range(1, segments.max() + 1):
            own = segments == segment
            assert set(row["decoder_task_ids"][own].tolist()) == {view_of(row["decoder_target_tokens"][own])}
        several += len(set(row["decoder_task_ids"].tolist()) - {0}) == 2
    assert several
    assert all(len(row["decoder_task_ids"]) == 50 for row in found)


def test_cut_targets_have_cut_ids(counting):
    short = {"inputs": 70, "targets": 6}
    (row,) = rows("counting_rationale", ViewFeatureConverter(pack=False), 1, short)
    assert row["decoder_task_ids"].tolist() == [TASK_IDS["rationale"]] * 6
    assert row["decoder_target_tokens"][-1] == 1


def test_plain_seqio_converter_works_as_ever(counting):
    """Who does not know of the ids is not bothered: the same rows without them."""
    for pack in (True, False):
        plain = rows("counting_step_by_step", seqio.EncDecFeatureConverter(pack=pack), 5)
        ours = rows("counting_step_by_step", ViewFeatureConverter(pack=pack), 5)
        for before, after in zip(plain, ours, strict=True):
            assert set(after) - set(before) == {"decoder_task_ids"}
            if not pack:  # a third feature can make SeqIO's packing end a row sooner, never change a segment
                for name, values in before.items():
                    np.testing.assert_array_equal(after[name], values)


def test_foreign_task_is_converted_without_ids():
    """For inference on a task that is none of ours."""
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensors({"inputs": tf.constant([4, 1]), "targets": tf.constant([5, 6, 1])})
    converter = ViewFeatureConverter(pack=False)
    (row,) = converter(dataset, LENGTHS).as_numpy_iterator()
    assert "decoder_task_ids" not in row
    assert row["decoder_target_tokens"][:4].tolist() == [5, 6, 1, 0]


def test_labels_longer_than_a_row_are_refused(counting):
    import tensorflow as tf

    with pytest.raises(tf.errors.InvalidArgumentError, match="TASK_FEATURE_LENGTHS has for targets"):
        rows("counting_soft_labels", ViewFeatureConverter(pack=False), 1, {"inputs": 70, "targets": 12})
