"""Times of links by hand: two hosts of eight H100, NVLink at 450 GB/s and an adapter of 50 GB/s for each."""

import dataclasses

import pytest

from distill_jax.models.config import T5Config
from distill_jax.planning import search
from distill_jax.planning.devices import DEVICES, get_device
from distill_jax.planning.hlo import Collective
from distill_jax.planning.job import Job
from distill_jax.planning.roofline import axis_groups, link_seconds, roofline, shares

H100 = get_device("h100")
GB = 1e9


def mesh(data=1, fsdp=1, model=1):
    return {"data": data, "fsdp": fsdp, "model": model}


def test_the_groups_of_an_axis_are_as_far_apart_as_the_axes_behind_it_are_large():
    sizes = mesh(2, 2, 3)
    assert axis_groups(sizes, "model").tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    assert axis_groups(sizes, "fsdp").tolist() == [[0, 3], [1, 4], [2, 5], [6, 9], [7, 10], [8, 11]]
    assert axis_groups(sizes, "data")[0].tolist() == [0, 6]


@pytest.mark.parametrize(
    ("kind", "sizes", "axis", "seconds"),
    [
        # All eight in one host: 7/8 of 9 GB over NVLink.
        ("all-gather", mesh(data=2, fsdp=8), "fsdp", 7 / 8 * 9 / 450),
        # One device of each host: half of 9 GB over the network, there and back.
        ("all-reduce", mesh(data=2, fsdp=8), "data", 2 * 1 / 2 * 9 / 50),
        # As many devices as `model` has, in eight hosts: all of it over the network, nine times as long.
        ("all-gather", mesh(data=8, model=8), "data", 7 / 8 * 9 / 50),
        ("all-gather", mesh(data=8, model=8), "model", 7 / 8 * 9 / 450),
        # Four devices in each of two hosts: every fourth part of the other half, then 3/4 over NVLink.
        ("reduce-scatter", mesh(data=8, model=2), "data", 1 / 2 / 4 * 9 / 50 + 3 / 4 * 9 / 450),
        # Both hosts: 1/8 of the other half each, then 7/8.
        ("all-gather", mesh(fsdp=16), "fsdp", 1 / 2 / 8 * 9 / 50 + 7 / 8 * 9 / 450),
        # To each of the other 15 devices 1/16, seven of them near.
        ("all-to-all", mesh(fsdp=16), "fsdp", 8 / 16 * 9 / 50 + 7 / 16 * 9 / 450),
    ],
)
def test_near_and_far_by_the_stride_of_the_axis(kind, sizes, axis, seconds):
    assert link_seconds(kind, 9 * GB, axis_groups(sizes, axis), H100) == pytest.approx(seconds)


def test_a_permutation_is_as_slow_as_its_farthest_pair():
    assert shares("collective-permute", [(0, 1), (1, 2)], 8) == (1.0, 0.0)
    assert shares("collective-permute", [(0, 1), (7, 8)], 8) == (1.0, 1.0)


def test_the_parts_of_a_group_that_no_host_holds_evenly():
    # Three devices, two of them in the first host: the third fetches 2/3 of the array alone.
    assert shares("all-gather", [(6, 7, 8)], 8) == (1 / 2, pytest.approx(2 / 3))


def test_what_is_sent_adds_up_to_the_ring():
    for kind in ("all-gather", "all-reduce"):
        operation = Collective(kind, 1600, axis_groups(mesh(data=4, fsdp=4), "fsdp").tolist(), 3)
        for domain in (1, 2, 4, 8):
            assert 3 * 1600 * sum(shares(kind, operation.groups, domain)) == pytest.approx(operation.moved)


def test_operations_of_each_type_at_their_peak():
    found = roofline({"bf16": 989.5e12, "f32": 494.5e12}, 0.0, [], H100)
    assert found.compute == pytest.approx(2.0) and found.bound == "compute"


def test_the_mesh_that_keeps_gathering_within_a_host_ranks_first():
    config = T5Config(32128, "bfloat16", emb_dim=1024, num_heads=16, mlp_dim=4096, remat="full")
    job = Job(config, mesh(), 32, {"inputs": 512, "targets": 128})

    def seconds(**sizes):
        return search.rough(dataclasses.replace(job, mesh=mesh(**sizes)), H100).seconds

    assert seconds(data=2, fsdp=8) < seconds(fsdp=16) < seconds(fsdp=2, model=8)
    assert seconds(data=2, model=8) < seconds(model=16)
    ranked = [candidate.mesh for candidate in search.candidates(job, H100, 16)]
    assert ranked[0]["model"] <= 8 and ranked[-1] == mesh(model=16)  # alone across hosts with `model`


def test_every_device_states_its_source_and_plausible_units():
    for name, device in DEVICES.items():
        assert device.source, name
        assert 1e14 < device.flops_float32 <= device.flops < 1e16, name
        assert 1e10 < device.memory < 1e12 < device.memory_rate + 1e12 < 1e13 + 1e12, name
        assert device.network_rate < device.link_rate < device.memory_rate, name
    assert get_device("tpu-v7").memory == pytest.approx(96 * 2**30) and get_device("h200").memory == 141e9
