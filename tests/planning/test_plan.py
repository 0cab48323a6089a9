"""Plans against arithmetic by hand."""

import dataclasses
import json
import sys

import pytest

from distill_jax.cli import main as cli
from distill_jax.config import ModelOptions, Sources, build
from distill_jax.errors import UserError
from distill_jax.models.config import T5Config
from distill_jax.models.families import make_config
from distill_jax.models.lora import Lora
from distill_jax.planning import search
from distill_jax.planning.compiler import compile_job, program
from distill_jax.planning.devices import get_device
from distill_jax.planning.job import Job
from distill_jax.planning.plan import plan, propose

XXL = T5Config(
    vocab_size=32128,
    dtype="bfloat16",
    emb_dim=4096,
    num_heads=64,
    num_encoder_layers=24,
    num_decoder_layers=24,
    head_dim=64,
    mlp_dim=10240,
    mlp_activations=("gelu", "linear"),
    scan_layers=True,
    remat="full",
)
SMALL = dataclasses.replace(
    XXL,
    vocab_size=1024,
    emb_dim=64,
    num_heads=4,
    num_encoder_layers=2,
    num_decoder_layers=2,
    head_dim=16,
    mlp_dim=128,
)


def parameters_of_a_device(config, fsdp, model):
    """Parameters by hand: (kernels, over both axes), (norms, over fsdp), (position biases, over model)."""
    e, h = config.emb_dim, config.num_heads
    joined = h * config.head_dim
    layers = config.num_encoder_layers * (4 * e * joined + 3 * e * config.mlp_dim)
    layers += config.num_decoder_layers * (8 * e * joined + 3 * e * config.mlp_dim)
    kernels = layers + 2 * config.vocab_size * e
    norms = e * (2 * config.num_encoder_layers + 3 * config.num_decoder_layers + 2)
    biases = 2 * h * 32
    return kernels // (fsdp * model) + norms // fsdp + biases // model


@pytest.mark.slow
def test_xxl_on_64_devices_has_the_memory_reckoned_by_hand():
    found = plan(
        Job(XXL, {"data": 1, "fsdp": 16, "model": 4}, 32, {"inputs": 1024, "targets": 256}),
        get_device("tpu-v5p"),
    )
    by_hand = parameters_of_a_device(XXL, 16, 4)
    assert found.memory["parameters"] == 4 * by_hand
    assert found.memory["optimizer"] == 2 * 4 * by_hand + 8  # two moments, and two counters of steps
    assert found.parameter_count == parameters_of_a_device(XXL, 1, 1)
    assert found.fits and found.compile_seconds < 600 and found.compile_bytes < 16 * 2**30
    # The layers' products: 2 for each parameter and token forward, as often again to recompute, twice backward.
    e, joined = 4096, 4096
    encoder, decoder = 4 * e * joined + 3 * e * 10240, 4 * e * joined + 2 * e * joined + 3 * e * 10240
    cross = 2 * e * joined  # keys and values of the encoder's output
    tokens = 24 * (1024 * (encoder + cross) + 256 * decoder)
    scores = 24 * 2 * 4096 * (1024 * 1024 + 256 * 256 + 256 * 1024)
    logits = 256 * 32128 * e
    not_again = 24 * (1024 + 256) * e * 10240  # the last product of a layer: nothing backward needs its result
    expected = 32 * (8 * (tokens + scores) + 6 * logits - 2 * not_again) / 64
    assert found.flops == pytest.approx(expected, rel=1e-4)


JOB = Job(SMALL, {"data": 2, "fsdp": 2, "model": 2}, 8, {"inputs": 64, "targets": 32})


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """What the compiler finds out about JOB, of whose program it leaves nothing in the user's cache."""
    folder = tmp_path_factory.mktemp("jax_cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder))
        compiled = compile_job(JOB)
    assert not list(folder.iterdir())
    return compiled


@pytest.fixture
def no_compiler(compiled, monkeypatch):
    """Every compilation finds the same."""
    monkeypatch.setattr("distill_jax.planning.plan.compile_job", lambda job: json.loads(json.dumps(compiled)))


def test_a_small_model_by_hand(no_compiler):
    found = plan(JOB, get_device("tpu-v5e"))
    assert found.memory["parameters"] == 4 * parameters_of_a_device(SMALL, 2, 2)
    assert found.memory["total"] == sum(v for k, v in found.memory.items() if k != "total")
    # Every kernel is gathered three times (forward, recomputed, backward) in two bytes, over two devices.
    layers = 2 * (4 * 64 * 64 + 3 * 64 * 128) + 2 * (8 * 64 * 64 + 3 * 64 * 128)
    assert found.moved["all-gather"] >= 3 * 2 * layers / 2 / 2
    assert found.fits
    assert not plan(JOB, get_device("tpu-v5e", memory=1e5)).fits


def test_the_program_of_a_single_device_is_not_partitioned(tmp_path):
    (tmp_path / "module_1.jit_train_step.before_optimizations.txt").write_text("lowered")
    assert program(tmp_path) == "lowered"
    name = "module_1.jit_train_step.7.before_x.after_spmd-partitioning.txt"
    (tmp_path / name).write_text("partitioned")
    assert program(tmp_path) == "partitioned"


def test_meshes_are_proposed(monkeypatch):
    compiled = []

    def fake(job):
        compiled.append(job.mesh)
        return {
            "parameters": 10,
            "optimizer": 20,
            "batch": 0,
            "activations": 1,
            "temporaries": 5,
            "not_donated": 0,
            "flops": {"bf16": 1e9 * job.mesh["model"]},
            "collectives": [],
            "parameter_count": 10,
            "trained_count": 10,
            "seconds": 1.0,
            "peak_rss": 1,
        }

    monkeypatch.setattr("distill_jax.planning.plan.compile_job", fake)
    job = Job(SMALL, {"data": 1, "fsdp": 1, "model": 1}, 8, {"inputs": 64, "targets": 32})
    found = propose(job, get_device("tpu-v5e"), 8)
    assert len(found) == 3
    assert [p.time.step for p in found] == sorted(p.time.step for p in found)
    assert all(p.job.devices == 8 for p in found)
    with pytest.raises(UserError, match="no mesh of 8 device"):
        propose(job, get_device("tpu-v5e", memory=20.0), 8)


def test_a_mesh_that_cannot_be_used_is_refused_before_compiling(monkeypatch):
    monkeypatch.setattr("distill_jax.planning.plan.compile_job", lambda job: pytest.fail("compiled"))
    job = Job(SMALL, {"data": 1, "fsdp": 1, "model": 8}, 8, {"inputs": 64, "targets": 32})
    with pytest.raises(UserError, match="model=8 does not divide num_heads 4; the nearest meshes"):
        plan(job, get_device("h100"))


def test_the_rough_order_prefers_what_moves_less():
    job = Job(XXL, {"data": 1, "fsdp": 1, "model": 1}, 256, {"inputs": 1024, "targets": 256})
    meshes = [candidate.mesh for candidate in search.candidates(job, get_device("tpu-v5e"), 256)]
    assert meshes and all(mesh["fsdp"] * mesh["model"] >= 8 for mesh in meshes)  # 16 GB: 133 GB must be split


def test_float32_products_take_the_float32_peak(no_compiler, compiled):
    device = get_device("h100")
    found = plan(JOB, device)
    by_hand = compiled["flops"]["bf16"] / 989.5e12 + compiled["flops"]["f32"] / 494.5e12
    assert found.time.compute == pytest.approx(by_hand)
    assert found.flops == sum(compiled["flops"].values())
    assert plan(JOB, get_device("h100", flops=1e12)).time.compute == pytest.approx(found.flops / 1e12)


def test_the_command(capsys, no_compiler):
    flags = ["--mesh", "data=2,fsdp=2,model=2", "--batch", "8", "--lengths", "64,32", "--steps", "3600"]
    command = ["plan", "--model", "t5_1_1/tiny", *flags, "--gin.VOCAB_SIZE=512"]
    assert cli.main([*command, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["mesh"] == {"data": 2, "fsdp": 2, "model": 2}
    assert found["device_hours"] == pytest.approx(8 * found["seconds"]["step"])
    assert cli.main(command) == 0
    assert "memory: optimizer, GB" in capsys.readouterr().out
    assert cli.main([*command, "--memory-gb", "0.0001"]) == 1  # does not fit
    assert cli.main(["plan", "--model", "xxl", "--batch", "4"]) == 1
    assert "give --mesh" in capsys.readouterr().err


def test_what_the_compiler_refuses_is_one_line(monkeypatch):
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(UserError, match="the train step did not compile: exit status 1"):
        compile_job(JOB)


UNBALANCED = {
    "model_family": "t5gemma",
    "vocab_size": 1024,
    "emb_dim": 64,
    "num_heads": 4,
    "num_kv_heads": 2,
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
    "head_dim": 16,
    "mlp_dim": 128,
    "encoder_emb_dim": 96,
    "encoder_mlp_dim": 192,
    "scan_layers": True,
}


def test_adapters_of_an_unbalanced_t5gemma_leave_the_weights_and_little_else():
    """Heads of keys and values are shared, and the encoder is wider: by hand, kernel by kernel."""
    config = make_config(UNBALANCED)
    e, wide, joined, shared = 64, 96, 64, 32  # shared: of keys and values
    encoder = 2 * (2 * wide * joined + 2 * wide * shared + 3 * wide * 192)
    decoder = 2 * (4 * e * joined + 2 * e * shared + 2 * wide * shared + 3 * e * 128)
    matrices = encoder + decoder + 1024 * (e + wide)
    assert config.matrix_parameters() == matrices
    norms = wide * (2 * 4 + 1) + e * (2 * 6 + 1)
    # An adapter of rank 4 has 4 (in + out) numbers.
    of_encoder = 2 * (wide + joined) + 2 * (wide + shared) + 3 * (wide + 192)
    of_decoder = 4 * (e + joined) + 2 * (e + shared) + 2 * (wide + shared) + 3 * (e + 128)
    of_adapters = 4 * 2 * (of_encoder + of_decoder)
    lora = Lora(4, 8.0, ("attention", "mlp"))
    job = Job(config, {"data": 2, "fsdp": 2, "model": 2}, 8, {"inputs": 64, "targets": 32}, lora=lora)
    found = plan(job, get_device("tpu-v5e"))
    assert found.parameter_count == matrices + norms
    assert found.trained_count == of_adapters
    # The rank is not sharded, and both sides are, over one axis of two each.
    assert found.memory["parameters"] == 4 * (matrices // 4 + norms // 2 + of_adapters // 2)
    assert found.memory["optimizer"] == 2 * 4 * of_adapters // 2 + 8  # two moments, and two counters of steps
    with pytest.raises(UserError, match="model=4 does not divide num_kv_heads 2"):
        plan(dataclasses.replace(job, mesh={"data": 2, "fsdp": 1, "model": 4}), get_device("tpu-v5e"))


@pytest.mark.parametrize(
    ("size", "device", "devices", "fits"),
    [
        ("t5gemma/2b-2b", "h100", 1, False),  # 5.6 billion parameters of 16 bytes: 90 GB
        ("t5gemma/2b-2b", "h100", 8, True),
        ("t5gemma/xl", "h100", 1, True),  # 3.8 billion: 60 GB
        ("t5gemma/9b-9b", "h100", 4, False),
        ("t5gemma/9b-9b", "h100", 8, True),
        ("t5gemma2/4b-4b", "tpu-v5p", 1, False),
        ("t5gemma2/4b-4b", "tpu-v5p", 4, True),
    ],
)
def test_the_meshes_worth_compiling_fit_where_they_should(size, device, devices, fits):
    shape = build(ModelOptions, Sources(model=size), remat="full", dtype="bfloat16").shape
    job = Job(make_config(shape), {"data": 1, "fsdp": 1, "model": 1}, 16, {"inputs": 512, "targets": 128}, 2)
    assert bool(list(search.candidates(job, get_device(device), devices))) == fits
