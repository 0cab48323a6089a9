"""Small students, and checkpoints of them in T5X's formats made without our writers."""

import pathlib

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore as ts
from flax import traverse_util

from distill_jax.checkpoints.other_formats.parameters import expected_shapes
from distill_jax.models.config import T5Config

KINDS = {
    "1.0": {"mlp_activations": ("relu",), "logits_via_embedding": True},
    "1.1": {"mlp_activations": ("gelu", "linear"), "logits_via_embedding": False},
    "gated and tied": {"mlp_activations": ("gelu", "linear"), "logits_via_embedding": True},
    "UL2": {"mlp_activations": ("silu", "linear"), "logits_via_embedding": False},
}


def _make_student(kind="1.1", **changes):
    """Config and random parameters, a tree of numpy arrays."""
    fields = {
        "vocab_size": 48,
        "emb_dim": 16,
        "num_heads": 2,
        "num_encoder_layers": 3,
        "num_decoder_layers": 2,
        "head_dim": 12,
        "mlp_dim": 24,
        "dropout_rate": 0.1,
    }
    config = T5Config(**{**fields, **KINDS[kind], **changes})
    rng = np.random.default_rng(0)
    shapes = expected_shapes(config)
    params = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    return config, traverse_util.unflatten_dict(params, sep="/")


def _flat(params):
    return traverse_util.flatten_dict(params, sep="/")


def _assert_same(parameters, params):
    """Bit for bit."""
    expected = _flat(params)
    assert set(parameters) == set(expected)
    for name, array in expected.items():
        found = parameters[name].read()
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, array, err_msg=name)


def _make_legacy(folder: pathlib.Path, params, *, driver="file", dtype="float32", chunks=None, version=3):
    """`checkpoint_<step>` as T5X writes it, with an optimizer's state whose arrays are not there."""
    specs = {}
    for name, array in _flat(params).items():
        path = f"target.{name.replace('/', '.')}"
        metadata = {
            "chunks": [chunks or side for side in array.shape],
            "compressor": {"id": "gzip", "level": 1},
            "shape": list(array.shape),
        }
        local = {"driver": "file", "path": f"{folder / path}/"}
        spec = {"driver": "zarr", "kvstore": local, "metadata": metadata, "dtype": dtype}
        ts.open(spec, create=True).result().write(array.astype(ts.dtype(dtype).numpy_dtype)).result()
        kvstore = {"driver": driver, "path": path}
        if driver == "gcs":
            kvstore["bucket"] = "t5x-dummy-bucket"
        specs[name] = {**spec, "kvstore": kvstore}
    lost = {**specs["token_embedder/embedding"], "kvstore": {"driver": driver, "path": "state.lost"}}
    small = "encoder/encoder_norm/scale"  # small things may be in the file itself
    specs[small] = _flat(params)[small]
    tree = {
        "target": traverse_util.unflatten_dict(specs, sep="/"),
        "state": {"step": np.int32(3), "param_states": {"v": lost, "none": None}},
    }
    content = {"version": version, "optimizer": tree} if version else tree
    (folder / "checkpoint").write_bytes(flax.serialization.msgpack_serialize(content))
    return folder


def _make_orbax(folder: pathlib.Path, params, *, ocdbt, step=3, zarr3=False):
    """`checkpoint_<step>/state` as T5X writes it with Orbax, the optimizer's state included."""
    arrays = jax.tree.map(jnp.asarray, params)
    tree = {"target": arrays, "state": {"step": np.int32(step), "param_states": {"v": arrays, "none": None}}}
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=ocdbt, use_zarr3=zarr3)
    options = ocp.CheckpointManagerOptions(step_prefix="checkpoint", enable_async_checkpointing=False)
    with ocp.CheckpointManager(folder, options=options, item_handlers={"state": handler}) as manager:
        manager.save(step, args=ocp.args.Composite(state=ocp.args.PyTreeSave(tree)))
    return folder / f"checkpoint_{step}"


@pytest.fixture(scope="session")
def make_student():
    return _make_student


@pytest.fixture(scope="session")
def assert_same():
    return _assert_same


@pytest.fixture(scope="session")
def make_legacy():
    return _make_legacy


@pytest.fixture(scope="session")
def make_orbax():
    return _make_orbax
