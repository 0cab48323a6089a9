import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
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
def test_every_preset_gives_the_curve_of_a_single_device():
    """In one process of 8 simulated devices: `sharded_curves.CASES` says which preset trains what."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    script = pathlib.Path(__file__).parent / "sharded_curves.py"
    done = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = {}
    for line in map(json.loads, done.stdout.splitlines()):
        found.setdefault(line["case"], {})[line["preset"]] = line["losses"]
    assert len(found) == 7 and set().union(*found.values()) - {None} == set(mesh.PRESETS)
    for case, curves in found.items():
        single = curves.pop(None)
        assert len(single) == 6 and single[-1] < single[0] and curves
        for preset, losses in curves.items():
            np.testing.assert_allclose(losses, single, rtol=1e-5, err_msg=f"{case}, {preset}")
