"""Checkpoints that somebody made to be no checkpoints: one line each, with the file, soon."""

import json

import flax.serialization
import numpy as np
import pytest
import safetensors.numpy

from distill_jax.checkpoints.orbax import Scores
from distill_jax.checkpoints.other_formats.huggingface import read_huggingface
from distill_jax.checkpoints.other_formats.safetensors_files import read_tensors
from distill_jax.checkpoints.other_formats.t5x_legacy import read_legacy
from distill_jax.checkpoints.reading import open_checkpoint
from distill_jax.errors import UserError

CONFIG = {
    "model_type": "t5",
    "vocab_size": 8,
    "d_model": 4,
    "d_kv": 2,
    "d_ff": 4,
    "num_heads": 2,
    "num_layers": 1,
}


def header(value):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        *map(
            header, (0, [], {"": None}, {"a": {}}, {"a": {"data_offsets": [0]}}, {"a": {"data_offsets": "ab"}})
        ),
        header({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}),
        header(b"[" * 20_000),
        b"\xff" * 8,
        b"",
    ],
)
def test_headers_of_safetensors(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="model.safetensors: not a whole safetensors file") as error:
        read_tensors(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "index", [0, [], {"weight_map": None}, {"weight_map": {"a": 3}}, {"weight_map": {"a": "../b"}}]
)
def test_an_index_of_safetensors(tmp_path, index):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="model.safetensors.index.json: "):
        read_tensors(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"feed_forward_proj": []},
        {"model_type": []},
        {"num_layers": 10**9},
        {"d_model": 10**30},
        {"num_heads": 0},
        {"d_kv": float("inf")},
        {"dropout_rate": "0.1"},
        {"vocab_size": None},
    ],
)
def test_configs_of_a_model(tmp_path, change):
    safetensors.numpy.save_file({"shared.weight": np.zeros((8, 4), np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | change))
    with pytest.raises(UserError, match="config.json: ") as error:
        read_huggingface(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "tree",
    [
        {"optimizer": None},
        {"optimizer": {"target": 3}},
        {"target": {"a": {"driver": "zarr", "kvstore": 3}}},
        {"target": {"a": {"driver": "zarr", "kvstore": {"path": "../../etc"}}}},
        {"target": {"a": {"driver": "zarr", "kvstore": {"path": "a"}, "metadata": {"shape": "x"}}}},
        {"target": {"a": None}},
        3,
    ],
)
def test_msgpack_of_t5x(tmp_path, tree):
    folder = tmp_path / "checkpoint_1"
    folder.mkdir()
    (folder / "checkpoint").write_bytes(flax.serialization.msgpack_serialize(tree))
    with pytest.raises(UserError, match=str(folder)) as error:
        read_legacy(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["../../x", "a/../../../b", ""])
def test_names_of_arrays_stay_in_the_folder(tmp_path, key):
    entry = {"key_metadata": [{"key": key}], "value_metadata": {}}
    (tmp_path / "_METADATA").write_text(json.dumps({"tree_metadata": {"x": entry}}))
    with pytest.raises(UserError, match="_METADATA: not the metadata of an Orbax checkpoint"):
        open_checkpoint(str(tmp_path))


@pytest.mark.parametrize(
    "scores", [[], {"by_step": {"x": 1}}, {"by_step": {"1": "y"}}, {"metric": 3, "by_step": {}}]
)
def test_validation_scores(scores):
    with pytest.raises(UserError, match="scores.json: no validation scores"):
        Scores.from_json(json.dumps(scores), "scores.json")
