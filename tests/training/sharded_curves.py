"""Run by test_partitioning in a process of 8 simulated devices: loss curves by preset, as JSON lines.

Usage: python sharded_curves.py unrolled|scan MICROBATCHES [FAMILY]
"""

import json
import sys

import jax
import numpy as np

from distill_jax.data.records import Segment, to_features
from distill_jax.data.views import TASK_IDS
from distill_jax.models.families import make_config, make_network
from distill_jax.training import losses, optimizers, partitioning, start, train_state
from distill_jax.training.mesh import describe
from distill_jax.training.step import make_train_step

STEPS, ROWS = 20, 16
MESHES = {
    "data_parallel": None,
    "fully_sharded": {"data": 2, "fsdp": 4},
    "tensor_parallel": None,
    "fully_sharded_tensor_parallel": {"data": 2, "fsdp": 2, "model": 2},
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


def curve(model, optimizer, microbatches, place=None):
    """Losses of STEPS steps, and the parameters at the end."""
    shardings = None
    if place is None:
        state = train_state.create(train_state.init_params(model, 0), optimizer)
    else:
        shardings = place.state(start.state_shapes(model, optimizer), model)
        create = lambda: train_state.create(train_state.init_params(model, 0), optimizer)  # noqa: E731
        state = jax.jit(create, out_shardings=shardings)()
    step = make_train_step(
        model,
        optimizer,
        losses.step_by_step_weights(),
        microbatches=microbatches,
        loss_chunk=6,
        z_loss=1e-4,
        shardings=shardings,
    )
    found = []
    for _, batch in zip(range(STEPS), batches(), strict=False):
        if place is None:
            state, metrics = step(state, batch)
        else:
            with place.active():
                state, metrics = step(state, partitioning.put_batch(batch, place))
        found.append(float(metrics["loss"]))
    if place is not None:
        jax.tree.map(lambda x, sharding: None if x.sharding == sharding else 1 / 0, state, shardings)
    return found


FAMILIES = {
    "t5": {"mlp_activations": ("gelu", "linear")},
    "umt5": {"mlp_activations": ("gelu", "linear")},
    "llama": {"num_encoder_layers": 0, "num_heads": 16, "num_kv_heads": 8, "qk_norm": True},
    "t5gemma": {"num_kv_heads": 2, "sliding_window": 4, "encoder_emb_dim": 16, "encoder_mlp_dim": 48},
    "t5gemma2": {"num_kv_heads": 1, "sliding_window": 4, "full_attention_every": 2},
}


def main(scan: bool, microbatches: int, family: str = "t5") -> None:
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
            "remat": "full" if scan and microbatches == 1 else "none",
            **FAMILIES[family],
        }
    )
    model = make_network(config)
    optimizer = optimizers.adafactor(1e-2, min_dim_size_to_factor=16) if scan else optimizers.adamw(1e-2)
    print(json.dumps({"name": "single", "losses": curve(model, optimizer, microbatches)}), flush=True)
    kv_heads = config.sharded_sizes().get("kv_heads", [("", 8)])[0][1]
    for preset, mesh in MESHES.items():
        if kv_heads < 8 and preset == "tensor_parallel":
            mesh = {"data": 8 // kv_heads, "model": kv_heads}
        place = partitioning.make_partitioner(config, ROWS, microbatches, mesh, preset)
        found = {"name": f"{preset} {describe(place.mesh.shape)}"}
        found["losses"] = curve(model, optimizer, microbatches, place)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1] == "scan", int(sys.argv[2]), *sys.argv[3:])
