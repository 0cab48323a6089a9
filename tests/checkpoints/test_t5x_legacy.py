import json
import shutil

import flax.serialization
import numpy as np
import pytest

from distill_jax.checkpoints.other_formats.parameters import Stacked, from_tree, stack, unstack
from distill_jax.checkpoints.other_formats.t5x_legacy import read_legacy, write_legacy
from distill_jax.checkpoints.stores import chunk_shape
from distill_jax.errors import UserError

QUERY = "encoder/layers_1/attention/query/kernel"
QUERY_FOLDER = "target.encoder.layers_1.attention.query.kernel"


@pytest.fixture
def legacy(make_student, make_legacy, tmp_path):
    _, params = make_student()
    return make_legacy(tmp_path / "checkpoint_3", params), params


@pytest.mark.parametrize("driver", ["file", "gfile", "gcs"])
@pytest.mark.parametrize("version", [3, 0])
def test_what_t5x_wrote_on_any_machine_is_read(
    make_student, make_legacy, assert_same, tmp_path, driver, version
):
    _, params = make_student()
    folder = make_legacy(tmp_path / "checkpoint_3", params, driver=driver, version=version)
    assert_same(read_legacy(folder), params)


def test_bfloat16_is_read_as_float32(make_student, make_legacy, tmp_path):
    _, params = make_student()
    folder = make_legacy(tmp_path / "checkpoint_3", params, dtype="bfloat16")
    found = read_legacy(folder)["token_embedder/embedding"].read()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, params["token_embedder"]["embedding"], rtol=1e-2)


@pytest.mark.parametrize("scan", [False, True])
def test_what_is_written_is_read(make_student, assert_same, tmp_path, scan):
    _, params = make_student()
    parameters = from_tree(params)
    write_legacy(tmp_path / "checkpoint_9", 9, stack(parameters) if scan else parameters)
    assert_same(unstack(read_legacy(tmp_path / "checkpoint_9")), params)
    tree = flax.serialization.msgpack_restore((tmp_path / "checkpoint_9" / "checkpoint").read_bytes())
    assert tree["version"] == 3 and tree["optimizer"]["state"]["step"] == 9


def test_stacked_layers_are_written_a_chunk_each(make_student, tmp_path):
    _, params = make_student()
    write_legacy(tmp_path / "checkpoint_0", 0, stack(from_tree(params)))
    metadata = tmp_path / "checkpoint_0" / "target.encoder.layers.mlp.wo.kernel" / ".zarray"
    assert json.loads(metadata.read_text())["chunks"] == [1, 24, 16]


def test_zeros_are_written_too(tmp_path):
    zeros = from_tree({"a": np.zeros((4, 4), np.float32)})
    write_legacy(tmp_path / "checkpoint_0", 0, zeros)
    assert not read_legacy(tmp_path / "checkpoint_0")["a"].read().any()


def test_a_lost_and_a_cut_chunk_name_the_parameter(legacy):
    folder, _ = legacy
    chunk = folder / QUERY_FOLDER / "0.0"
    content = chunk.read_bytes()
    chunk.write_bytes(content[:20])
    with pytest.raises(UserError, match=rf"parameter {QUERY} \[16, 24\] cannot be read.*not whole"):
        read_legacy(folder)[QUERY].read()
    chunk.unlink()
    with pytest.raises(UserError, match=rf"parameter {QUERY} \[16, 24\] cannot be read.*missing"):
        read_legacy(folder)[QUERY].read()
    shutil.rmtree(folder / QUERY_FOLDER)
    with pytest.raises(
        UserError, match=rf"parameter {QUERY} \({QUERY_FOLDER} there, of shape \[16, 24\]\) cannot be"
    ):
        read_legacy(folder)


def test_an_array_of_another_shape_than_the_tree_says_is_refused(legacy):
    folder, _ = legacy
    metadata = folder / QUERY_FOLDER / ".zarray"
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {"shape": [16, 12]}))
    with pytest.raises(UserError, match=rf"{QUERY}.*\[16,24\].*\[16,12\]|{QUERY}.*\[16,12\].*\[16,24\]"):
        read_legacy(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda content: content[:-9], "not a whole msgpack file"),
        (lambda content: b"", "not a whole msgpack file"),
        (lambda content: b'model_checkpoint_path: "model.ckpt-1"', "a TensorFlow checkpoint"),
        (
            lambda content: flax.serialization.msgpack_serialize({"params": {}}),
            "no target in there, only params",
        ),
        (
            lambda content: flax.serialization.msgpack_serialize({"target": {"a": "text"}}),
            "parameter a is a str, expected an array",
        ),
        (
            lambda content: flax.serialization.msgpack_serialize(
                {"target": {"a": {"driver": "zarr", "kvstore": {"driver": "file", "path": "../../a"}}}}
            ),
            "parameter a: no spec of a Zarr array beside the file",
        ),
    ],
)
def test_a_file_that_is_no_whole_t5x_checkpoint_is_refused(legacy, content, message):
    folder, _ = legacy
    path = folder / "checkpoint"
    path.write_bytes(content(path.read_bytes()))
    with pytest.raises(UserError, match=message):
        read_legacy(folder)


def test_bfloat16_saved_as_integers_is_refused_by_name(make_student, make_legacy, tmp_path):
    _, params = make_student()
    folder = make_legacy(tmp_path / "checkpoint_3", params, dtype="uint16", version=2)
    with pytest.raises(UserError, match=r"parameter \S+ \[\S+.*has the type uint16, expected floats"):
        read_legacy(folder)


def test_chunks_divide_the_parameter_and_stay_below_64_mib():
    assert chunk_shape((48, 16), 4) == [48, 16]
    assert chunk_shape((), 4) == []
    chunks = chunk_shape((32128, 4096), 4)
    assert np.prod(chunks) * 4 <= 64 * 1024 * 1024
    assert 32128 % chunks[0] == 0 and 4096 % chunks[1] == 0
    assert chunk_shape((24, 8, 8), 4, 1) == [1, 8, 8]
    assert isinstance(
        stack({"encoder/layers_0/a": from_tree({"a": np.zeros(2)})["a"]})["encoder/layers/a"], Stacked
    )
