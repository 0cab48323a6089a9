import pytest

from distill_jax.errors import UserError
from distill_jax.models.config import T5Config
from distill_jax.training.mesh import DEFAULT, check, mesh_sizes, table, valid_meshes

CONFIG = T5Config(vocab_size=128, emb_dim=32, num_heads=8, head_dim=4, mlp_dim=64)
BOTH = table(DEFAULT)


def sizes(data=1, fsdp=1, model=1):
    return {"data": data, "fsdp": fsdp, "model": model}


@pytest.mark.parametrize(
    ("mesh", "batch", "devices", "message"),
    [
        (sizes(data=3), 12, 8, r"its product is 3, but there are 8 device\(s\); the nearest .*: data=4"),
        (sizes(model=16), 16, 16, "model=16 does not divide num_heads 8; .*data=2,fsdp=1,model=8"),
        (
            sizes(data=8),
            12,
            8,
            r"\(BATCH_SIZE\) 12 does not divide over 8 .*: the nearest that does is 16; ",
        ),
        (sizes(fsdp=64), 64, 64, "fsdp=64 does not divide emb_dim 32"),
        (sizes(data=7), 5, 7, "no mesh can be used with this batch size"),
    ],
)
def test_a_mesh_that_cannot_be_used_is_refused_with_the_nearest(mesh, batch, devices, message):
    with pytest.raises(UserError, match=message):
        check(mesh, BOTH, CONFIG, batch, 1, devices, 1)


def test_every_mesh_that_is_proposed_can_be_used():
    meshes = list(valid_meshes(BOTH, CONFIG, 16, 2, 16))
    assert sizes(data=2, fsdp=2, model=4) in meshes
    assert all(mesh["data"] * mesh["fsdp"] * 2 <= 16 and mesh["model"] <= 8 for mesh in meshes)
    for mesh in meshes:
        check(mesh, BOTH, CONFIG, 16, 2, 16, 1)


def test_an_axis_that_nothing_uses_is_refused():
    rules = table("data_parallel")
    with pytest.raises(UserError, match="nothing is spread over model=2"):
        check(sizes(data=4, model=2), rules, CONFIG, 8, 1, 8, 1)


def test_sizes_of_the_mesh():
    assert mesh_sizes(None, "fully_sharded", 8) == sizes(fsdp=8)
    assert mesh_sizes(None, DEFAULT, 8) == sizes(data=8)
    assert mesh_sizes({"fsdp": -1, "model": 2}, DEFAULT, 8) == sizes(fsdp=4, model=2)
    for mesh, message in [
        ({"rows": 2}, "unknown axis 'rows'"),
        ({"data": 0}, "data must be a number from 1"),
        ({"data": -1, "fsdp": -1}, "only one axis can be -1"),
    ]:
        with pytest.raises(UserError, match=message):
            mesh_sizes(mesh, DEFAULT, 8)
    with pytest.raises(UserError, match="is none of data_parallel"):
        table("zero")
    with pytest.raises(UserError, match="'mlp' goes to 'pipe'"):
        table([("mlp", "pipe")])
