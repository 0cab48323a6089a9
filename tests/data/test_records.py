import numpy as np
import pytest

from distill_jax.data.records import Segment, decode_row, encode_row, to_features

ROW = [Segment([5, 6, 7, 1], [8, 1], 1, 41), Segment([9, 1], [10, 11, 1], 2, 70_000)]


def plain(segments):
    return [(list(s.inputs), list(s.targets), s.task_id, s.example) for s in segments]


@pytest.mark.parametrize("row", [ROW, ROW[:1], []])
def test_round_trip(row):
    assert plain(decode_row(encode_row(row))) == plain(row)


def test_features_by_hand():
    features = to_features(decode_row(encode_row(ROW)), {"inputs": 8, "targets": 6})
    expected = {
        "encoder_input_tokens": [5, 6, 7, 1, 9, 1, 0, 0],
        "encoder_segment_ids": [1, 1, 1, 1, 2, 2, 0, 0],
        "encoder_positions": [0, 1, 2, 3, 0, 1, 0, 0],
        "decoder_target_tokens": [8, 1, 10, 11, 1, 0],
        "decoder_input_tokens": [0, 8, 0, 10, 11, 0],
        "decoder_loss_weights": [1, 1, 1, 1, 1, 0],
        "decoder_segment_ids": [1, 1, 2, 2, 2, 0],
        "decoder_positions": [0, 1, 0, 1, 2, 0],
        "decoder_task_ids": [1, 1, 2, 2, 2, 0],
    }
    assert {name: values.tolist() for name, values in features.items()} == expected
    assert features.pop("decoder_loss_weights").dtype == np.float32
    assert {values.dtype for values in features.values()} == {np.dtype(np.int32)}


def test_shared_inputs_by_hand():
    row = [
        Segment([5, 6, 1], [8, 1], 1, 0),
        Segment([], [10, 11, 1], 2, 0, start=1),
        Segment([7, 1], [12, 1], 2, 1, start=1),
    ]
    features = to_features(decode_row(encode_row(row)), {"inputs": 6, "targets": 8}, shared=True)
    expected = {
        "encoder_input_tokens": [5, 6, 1, 7, 1, 0],
        "encoder_segment_ids": [1, 1, 1, 2, 2, 0],
        "decoder_target_tokens": [8, 1, 10, 11, 1, 12, 1, 0],
        "decoder_input_tokens": [0, 8, 1, 10, 11, 1, 12, 0],
        "decoder_segment_ids": [1, 1, 2, 2, 2, 3, 3, 0],
        "decoder_cross_segment_ids": [1, 1, 1, 1, 1, 2, 2, 0],
        "decoder_task_ids": [1, 1, 2, 2, 2, 2, 2, 0],
    }
    assert {name: features[name].tolist() for name in expected} == expected


def test_full_row():
    features = to_features(ROW, {"inputs": 6, "targets": 5})
    assert (features["encoder_segment_ids"] > 0).all()
    assert (features["decoder_task_ids"] > 0).all()
