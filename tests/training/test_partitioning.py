import pathlib
import subprocess
import sys

import jax
import optax
import pytest
from jax.sharding import PartitionSpec

from distill_jax.errors import UserError
from distill_jax.models.config import T5Config
from distill_jax.models.t5 import Transformer
from distill_jax.training import optimizers, partitioning, start

CONFIG = T5Config(
    vocab_size=128,
    emb_dim=32,
    num_heads=8,
    num_encoder_layers=1,
    num_decoder_layers=1,
    head_dim=4,
    mlp_dim=64,
    mlp_activations=("gelu", "linear"),
)
BOTH = partitioning.table(partitioning.DEFAULT)


def sizes(data=1, fsdp=1, model=1):
    return {"data": data, "fsdp": fsdp, "model": model}


@pytest.mark.parametrize(
    ("mesh", "batch", "devices", "message"),
    [
        (sizes(data=3), 12, 8, r"its product is 3, but there are 8 device\(s\); the nearest .*: data=4"),
        (sizes(model=16), 16, 16, "model=16 does not divide num_heads 8; .*data=2,fsdp=1,model=8"),
        (sizes(data=8), 12, 8, "BATCH_SIZE 12 does not divide over 8 .*: the nearest that does is 16; "),
        (sizes(fsdp=64), 64, 64, "fsdp=64 does not divide emb_dim 32"),
        (sizes(data=7), 5, 7, "no mesh can be used with this batch size"),
    ],
)
def test_a_mesh_that_cannot_be_used_is_refused_with_the_nearest(mesh, batch, devices, message):
    with pytest.raises(UserError, match=message):
        partitioning.check(mesh, BOTH, CONFIG, batch, 1, devices)


def test_every_mesh_that_is_proposed_can_be_used():
    meshes = list(partitioning.valid_meshes(BOTH, CONFIG, 16, 2, 16))
    assert sizes(data=2, fsdp=2, model=4) in meshes
    assert all(mesh["data"] * mesh["fsdp"] * 2 <= 16 and mesh["model"] <= 8 for mesh in meshes)
    for mesh in meshes:
        partitioning.check(mesh, BOTH, CONFIG, 16, 2, 16)


def test_an_axis_that_nothing_uses_is_refused():
    rules = partitioning.table("data_parallel")
    with pytest.raises(UserError, match="nothing is spread over model=2"):
        partitioning.check(sizes(data=4, model=2), rules, CONFIG, 8, 1, 8)


def test_sizes_of_the_mesh():
    assert partitioning.mesh_sizes(None, "fully_sharded", 8) == sizes(fsdp=8)
    assert partitioning.mesh_sizes(None, partitioning.DEFAULT, 8) == sizes(data=8)
    assert partitioning.mesh_sizes({"fsdp": -1, "model": 2}, partitioning.DEFAULT, 8) == sizes(fsdp=4, model=2)
    assert partitioning.parse_mesh("data=8, fsdp=4") == {"data": 8, "fsdp": 4}
    for mesh, message in [
        ({"rows": 2}, "unknown axis 'rows'"),
        ({"data": 0}, "data must be a number from 1"),
        ({"data": -1, "fsdp": -1}, "only one axis can be -1"),
    ]:
        with pytest.raises(UserError, match=message):
            partitioning.mesh_sizes(mesh, partitioning.DEFAULT, 8)
    with pytest.raises(UserError, match="expected AXIS=N"):
        partitioning.parse_mesh("8x8")
    with pytest.raises(UserError, match="is none of data_parallel"):
        partitioning.table("zero")
    with pytest.raises(UserError, match="'mlp' goes to 'pipe'"):
        partitioning.table([("mlp", "pipe")])


def specs(optimizer):
    """PartitionSpec by path of a state on a mesh of one device: the names are what matters."""
    model = Transformer(CONFIG)
    place = partitioning.Partitioner(
        jax.make_mesh((1, 1, 1), partitioning.AXES, axis_types=(jax.sharding.AxisType.Auto,) * 3), BOTH
    )
    state = place.state(start.state_shapes(model, optimizer), model)
    return {
        jax.tree_util.keystr(path): sharding.spec
        for path, sharding in jax.tree_util.tree_leaves_with_path(state)
    }


def test_the_moments_lie_as_their_parameters_do():
    found = specs(optimizers.adamw(1e-3))
    names = [name for name in found if name.startswith(".params")]
    assert found[".params['encoder']['layers_0']['mlp']['wi_0']['kernel']"] == PartitionSpec("fsdp", "model")
    assert found[".params['token_embedder']['embedding']"] == PartitionSpec("model", "fsdp")
    for name in names:
        moments = [found[other] for other in found if other.endswith(name.removeprefix(".params"))]
        assert moments == [found[name]] * 3, name


def test_factored_moments_lie_as_the_axes_they_keep():
    found = specs(optax.adafactor(1e-3, min_dim_size_to_factor=16))
    by_moment = {
        moment: found[name]
        for name in found
        for moment in ("v_row", "v_col")
        if f".{moment}['encoder']['layers_0']['mlp']['wi_0']['kernel']" in name  # [embed 32, mlp 64]
    }
    assert by_moment == {"v_row": PartitionSpec("fsdp"), "v_col": PartitionSpec("model")}
    square = {
        moment: found[name]
        for name in found
        for moment in ("v_row", "v_col")
        if f".{moment}['encoder']['layers_0']['attention']['query']['kernel']" in name  # [embed 32, joined 32]
    }
    assert square == {"v_row": PartitionSpec("fsdp"), "v_col": PartitionSpec("model")}


@pytest.mark.slow
@pytest.mark.parametrize("case", ["unrolled 1", "unrolled 2", "scan 1", "scan 2"])
def test_every_preset_gives_the_curve_of_a_single_device(case):
    import json
    import os

    import numpy as np

    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    script = pathlib.Path(__file__).parent / "sharded_curves.py"
    done = subprocess.run(
        [sys.executable, str(script), *case.split()],
        env=environment,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    single, *spread = [json.loads(line) for line in done.stdout.splitlines()]
    assert single["name"] == "single" and len(spread) == len(partitioning.PRESETS)
    assert len(single["losses"]) == 20 and single["losses"][-1] < single["losses"][0]
    for run in spread:
        np.testing.assert_allclose(run["losses"], single["losses"], rtol=1e-5, err_msg=run["name"])
