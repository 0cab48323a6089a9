import pathlib
import subprocess
import sys

import jax
import optax
import pytest
from jax.sharding import PartitionSpec

from distill_jax.models.config import T5Config
from distill_jax.models.t5 import Transformer
from distill_jax.training import mesh, optimizers, partitioning, start

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


def specs(optimizer):
    """PartitionSpec by path of a state on a mesh of one device: the names are what matters."""
    model = Transformer(CONFIG)
    place = partitioning.Partitioner(
        jax.make_mesh((1, 1, 1), mesh.AXES, axis_types=(jax.sharding.AxisType.Auto,) * 3),
        mesh.table(mesh.DEFAULT),
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
@pytest.mark.parametrize(
    "case",
    [
        "unrolled 1",
        "unrolled 2",
        "scan 1",
        "scan 2",
        "scan 2 umt5",
        "unrolled 2 llama",
        "scan 1 t5gemma",
        "unrolled 2 t5gemma2",
    ],
)
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
    assert single["name"] == "single" and len(spread) == len(mesh.PRESETS)
    assert len(single["losses"]) == 20 and single["losses"][-1] < single["losses"][0]
    for run in spread:
        np.testing.assert_allclose(run["losses"], single["losses"], rtol=1e-5, err_msg=run["name"])
