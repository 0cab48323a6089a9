"""Run by test_partitioning in a process of 8 simulated devices: loss curves by case and preset, as JSON lines.

Nearly all of its time is compilation: every preset trains in the case that has least in it, and the others
on the mesh that shards over every axis; llama also over as many heads of keys and values as there are devices.
Adafactor, which is the same for every family, trains T5 with scanned layers, and AdamW the rest. UMT5 and
T5Gemma 2 drop nothing: their layers are T5's and T5Gemma's, which do.
"""

import dataclasses
import functools
import gc
import json

import jax
import numpy as np

from distill_jax.data.records import Segment, to_features
from distill_jax.data.views import TASK_IDS
from distill_jax.models.families import make_config, make_network
from distill_jax.models.lora import Lora
from distill_jax.training import losses, optimizers, partitioning, start, train_state
from distill_jax.training.mesh import describe
from distill_jax.training.step import make_train_step

STEPS, ROWS = 6, 16
ALL_AXES = "fully_sharded_tensor_parallel"
MESHES = {
    "data_parallel": None,
    "fully_sharded": {"data": 2, "fsdp": 4},
    "tensor_parallel": None,
    ALL_AXES: {"data": 2, "fsdp": 2, "model": 2},
}
# By case: family, layers are scanned, microbatches, presets.
CASES = {
    "unrolled 1": ("t5", False, 1, tuple(name for name in MESHES if name != ALL_AXES)),
    "scan 1": ("t5", True, 1, (ALL_AXES,)),
    "umt5": ("umt5", True, 2, (ALL_AXES,)),
    "llama": ("llama", False, 2, ("tensor_parallel", ALL_AXES)),
    "t5gemma": ("t5gemma", True, 1, (ALL_AXES,)),
    "t5gemma2": ("t5gemma2", False, 2, (ALL_AXES,)),
    "adapters": ("llama", True, 2, (ALL_AXES,)),
}
LORA = Lora(4, 8.0, ("attention", "mlp"))
FAMILIES = {
    "t5": {"mlp_activations": ("gelu", "linear")},
    "umt5": {"mlp_activations": ("gelu", "linear"), "dropout_rate": 0.0},
    "llama": {"num_encoder_layers": 0, "num_heads": 16, "num_kv_heads": 8, "qk_norm": True},
    "t5gemma": {"num_kv_heads": 2, "sliding_window": 4, "encoder_emb_dim": 16, "encoder_mlp_dim": 48},
    "t5gemma2": {"num_kv_heads": 1, "sliding_window": 4, "full_attention_every": 2, "dropout_rate": 0.0},
}


def batches():
    """The batches of each step: rows of packed random segments."""
    rng = np.random.default_rng(0)
    while True:
        rows = []
        for number in range(ROWS):
            segments = []
            for task_id, longest in ((TASK_IDS["label"], 3), (TASK_IDS["rationale"], 8)):
                inputs = [*rng.integers(3, 120, rng.integers(3, 10)).tolist(), 1]
                targets = [*rng.integers(3, 120, rng.integers(1, longest)).tolist(), 1]
                segments.append(Segment(inputs, targets, task_id, number))
            rows.append(to_features(segments, {"inputs": 24, "targets": 16}))
        yield {name: np.stack([row[name] for row in rows]) for name in rows[0]}


@functools.cache
def student(family, scan):
    """Config, optimizer and first state as numpy arrays."""
    config = make_config(
        {
            "model_family": family,
            "vocab_size": 128,
            "emb_dim": 32,
            "num_heads": 8,
            "num_encoder_layers": 1 + scan,
            "num_decoder_layers": 1 + scan,
            "head_dim": 4,
            "mlp_dim": 64,
            "dropout_rate": 0.1,
            "scan_layers": scan,
            **FAMILIES[family],
        }
    )
    model = make_network(config)
    optimizer = optimizers.adamw(1e-2)
    if family == "t5" and scan:
        optimizer = optimizers.adafactor(1e-2, min_dim_size_to_factor=16)
    return config, optimizer, jax.device_get(train_state.create(train_state.init_params(model, 0), optimizer))


def check_creation(family, scan):
    """A state is the same where it is created sharded: what is drawn does not depend on where it lies."""
    config, optimizer, state = student(family, scan)
    model = make_network(config)
    shardings = placed(config, 1, ALL_AXES).state(start.state_shapes(model, optimizer), model)
    create = lambda: train_state.create(train_state.init_params(model, 0), optimizer)  # noqa: E731
    sharded = jax.jit(create, out_shardings=shardings)()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), sharded, state)


def placed(config, microbatches, preset):
    return partitioning.make_partitioner(config, ROWS, microbatches, MESHES[preset], preset)


def curve(case, preset=None):
    """Mesh, and losses of STEPS steps, on one device or on the mesh of a preset."""
    family, scan, microbatches, _ = CASES[case]
    config, optimizer, state = student(family, scan)
    config = dataclasses.replace(config, remat="full" if scan and microbatches == 1 else "none")
    model, place, shardings, lora, base = make_network(config), None, None, None, None
    if case == "adapters":
        lora, base = LORA, state.params
        state = train_state.create(lora.init(base, 0), optimizer)
    if preset is not None:
        place = placed(config, microbatches, preset)
        shardings = place.state(start.state_shapes(model, optimizer, lora), model, lora)
        base = base and jax.device_put(base, place.params(model))
    state = jax.device_put(state, shardings, may_alias=False)  # the step donates it
    step = make_train_step(
        model,
        optimizer,
        losses.step_by_step_weights(),
        microbatches=microbatches,
        loss_chunk=6,
        z_loss=1e-4,
        shardings=shardings,
        lora=lora,
    )
    found = []
    for _, batch in zip(range(STEPS), batches(), strict=False):
        if place is None:
            state, metrics = step(state, batch, None, base)
        else:
            with place.active():
                state, metrics = step(state, partitioning.put_batch(batch, place), None, base)
        found.append(float(metrics["loss"]))
    if place is None:
        return None, found
    jax.tree.map(lambda x, sharding: None if x.sharding == sharding else 1 / 0, state, shardings)
    return describe(place.mesh.shape), found


def main() -> None:
    jax.config.update("jax_enable_compilation_cache", False)  # no other process has these programs
    gc.freeze()  # as in conftest.py
    gc.set_threshold(50_000, 20, 20)
    for family in (("llama", False), ("llama", True)):
        check_creation(*family)
    for case in CASES:
        for preset in (None, *CASES[case][-1]):
            mesh, found = curve(case, preset)
            print(json.dumps({"case": case, "preset": preset, "mesh": mesh, "losses": found}), flush=True)


if __name__ == "__main__":
    main()
