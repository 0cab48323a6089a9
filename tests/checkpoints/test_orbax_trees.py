import json
import shutil

import flax.serialization
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import traverse_util

from distill_jax.checkpoints import stores
from distill_jax.checkpoints.orbax_trees import read_tree, write_tree
from distill_jax.checkpoints.other_formats.parameters import Parameter, from_tree, stack, to_tree, unstack
from distill_jax.errors import UserError

QUERY = "encoder/layers_1/attention/query/kernel"
QUERY_NAME = "target.encoder.layers_1.attention.query.kernel"


@pytest.mark.parametrize(("ocdbt", "zarr3"), [(True, False), (False, False), (True, True)])
def test_what_orbax_wrote_is_read(make_student, make_orbax, assert_same, tmp_path, ocdbt, zarr3):
    _, params = make_student()
    folder = make_orbax(tmp_path, params, ocdbt=ocdbt, zarr3=zarr3)
    assert_same(read_tree(folder / "state", "target"), params)


def test_an_old_tree_with_placeholders_is_read(make_student, make_orbax, assert_same, tmp_path):
    _, params = make_student()
    state = make_orbax(tmp_path, params, ocdbt=False) / "state"
    (state / "_METADATA").unlink()
    names = {key: f"PLACEHOLDER://{'.'.join(key)}" for key in traverse_util.flatten_dict({"target": params})}
    tree = traverse_util.unflatten_dict({**names, ("state", "step"): np.int32(3)})
    (state / "checkpoint").write_bytes(flax.serialization.msgpack_serialize(tree))
    assert_same(read_tree(state, "target"), params)


def test_layers_that_share_a_chunk_are_read_together(make_student, make_orbax, tmp_path, monkeypatch):
    _, params = make_student()
    folder = make_orbax(tmp_path, to_tree(from_tree(params), scan_layers=True), ocdbt=True)
    reads = []
    whole = stores.ArrayReader._read
    monkeypatch.setattr(
        stores.ArrayReader, "_read", lambda self, name, store: reads.append(name) or whole(self, name, store)
    )
    parameters = read_tree(folder / "state", "target")
    for parameter in unstack(parameters).values():
        parameter.read()
    assert sorted(reads) == sorted(parameters)
    reads.clear()
    write_tree(tmp_path / "out", 0, "params", unstack(parameters), {})
    assert len(reads) <= len(parameters)


@pytest.mark.parametrize("ocdbt", [True, False])
@pytest.mark.parametrize("scan", [True, False])
def test_orbax_restores_what_is_written(make_student, assert_same, tmp_path, ocdbt, scan):
    _, params = make_student()
    parameters = from_tree(params)
    step = {"step": np.asarray(7, np.int32)}
    write_tree(tmp_path, 7, "params", stack(parameters) if scan else parameters, step, ocdbt=ocdbt)
    assert (tmp_path / "7" / "state" / "manifest.ocdbt").exists() == ocdbt
    with ocp.CheckpointManager(tmp_path) as manager:
        assert manager.all_steps() == [7]
        restored = manager.restore(7, args=ocp.args.Composite(state=ocp.args.PyTreeRestore()))["state"]
    assert restored["step"] == 7
    assert_same(from_tree(restored["params"]), params)


def test_one_parameter_is_held_at_a_time(tmp_path):
    held = [0, 0]

    class Array(np.ndarray):
        def __del__(self):
            held[0] -= self.base is None

    def fetch(index):
        held[0] += 1
        held[1] = max(held)
        return np.ndarray.__new__(Array, (64, 64), np.float32)

    parameters = {f"p{n}": Parameter((64, 64), fetch) for n in range(20)}
    write_tree(tmp_path, 0, "params", parameters, {})
    assert held[1] <= 2  # the one being written, and the next


@pytest.mark.parametrize("ocdbt", [True, False])
def test_lost_and_cut_files_name_the_parameter(make_student, make_orbax, tmp_path, ocdbt):
    _, params = make_student()
    state = make_orbax(tmp_path, params, ocdbt=ocdbt) / "state"
    files = state.rglob("d/*") if ocdbt else [state / QUERY_NAME / "0.0"]
    for path in files:
        path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(UserError, match=r"parameter \S+ .*(cannot be read|cannot be opened).*not whole"):
        read_tree(state, "target")[QUERY].read()
    if not ocdbt:
        shutil.rmtree(state / QUERY_NAME)
        message = rf"parameter {QUERY} \({QUERY_NAME} there, of shape \[16, 24\]\) cannot be opened"
        with pytest.raises(UserError, match=message):
            read_tree(state, "target")


def test_a_folder_that_is_no_whole_tree_is_refused(make_student, make_orbax, tmp_path):
    state = make_orbax(tmp_path, make_student()[1], ocdbt=True) / "state"
    with pytest.raises(UserError, match="no params in there, only state, target"):
        read_tree(state, "params")
    metadata = state / "_METADATA"
    metadata.write_text(json.dumps({"tree_metadata": 3}))
    with pytest.raises(UserError, match="not the metadata of an Orbax checkpoint"):
        read_tree(state, "target")
    metadata.unlink()
    with pytest.raises(UserError, match="_METADATA: No such file.*not whole"):
        read_tree(state, "target")
