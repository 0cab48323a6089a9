"""Compiles the train step for devices that are not there, in a process of its own.

`python -m distill_jax.planning.compiler FOLDER` reads a job as JSON from standard input and writes its figures
into the folder of XLA's dumps. Nothing of the model is allocated: shapes go in, a program comes out.
"""

import json
import math
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
from jax.extend.core import Var

from distill_jax.errors import UserError
from distill_jax.planning import hlo
from distill_jax.planning.job import Job
from distill_jax.training.mesh import batch_shards, table

_DUMP = "spmd-partitioning"
_FIGURES = "figures.json"


def compile_job(job: Job) -> dict[str, Any]:
    """Compiles `job` over simulated devices.

    Returns:
      Bytes a device: `parameters`, `optimizer`, `batch`, `activations`, `temporaries`, `not_donated`; `flops` a
      device, by operand type; `collectives`, the fields of `hlo.Collective`; `seconds` and `peak_rss` of the
      compilation; `parameter_count`.

    Raises:
      UserError: when the compiler fails; the last line of its errors is in the message.
    """
    with tempfile.TemporaryDirectory() as folder:
        flags = (
            f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={folder} "
            f"--xla_force_host_platform_device_count={job.devices} "
            f"--xla_dump_hlo_as_text --xla_dump_hlo_pass_re={_DUMP} --xla_dump_hlo_module_re=.*train_step.* "
            "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
        )
        out = pathlib.Path(folder, _FIGURES)
        environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "2"}
        environment["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # a program from the cache is not dumped
        command = [sys.executable, "-m", "distill_jax.planning.compiler", folder]
        streams = {"input": json.dumps(job.to_json()), "text": True, "stderr": subprocess.PIPE}
        done = subprocess.run(command, **streams, env=environment, check=False)
        if done.returncode or not out.exists():
            last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise UserError(f"the train step did not compile: {last}")
        return json.loads(out.read_text())


def _device_bytes(tree: Any) -> int:
    """Bytes that one device holds of a tree of shapes with shardings."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _activation_bytes(job: Job, model: Any, params: Any, base: Any, batch: Any) -> int:
    """Bytes of the residuals that a device stores in the forward pass for the backward pass, from their shapes.

    Arrays with the rows or tokens of the batch along an axis count as sharded like the batch, those with heads,
    `mlp` or `vocab` along one as sharded over `model`. Parameters are not counted.
    """
    from distill_jax.training.losses import CrossEntropy

    rows = job.batch_size // job.microbatches
    batch = {name: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype) for name, x in batch.items()}
    batch["weights"] = batch["decoder_loss_weights"]

    def backward(params, base, batch):
        def loss(params):
            rest = {"key": jax.random.key(0), "teacher": None, "loss_chunk": job.loss_chunk, "z_loss": 0.0}
            params = params if job.lora is None else job.lora.combine(base, params)
            return CrossEntropy()(params, model=model, batch=batch, **rest)[0]

        return jax.vjp(loss, params)[1]

    jaxpr = jax.make_jaxpr(backward)(params, base, batch).jaxpr
    given = set(jaxpr.invars)
    kept = {var: var.aval for var in jaxpr.outvars if isinstance(var, Var) and var not in given}
    spread = {rows, *(rows * length for length in job.lengths.values())}
    shards = batch_shards(job.mesh, table(job.partition))
    sizes = job.config.sharded_sizes()
    tensor = {size for name in ("heads", "mlp", "vocab") for _, size in sizes[name]}

    def parts(shape) -> int:
        return (shards if spread & set(shape) else 1) * (job.mesh["model"] if tensor & set(shape) else 1)

    return sum(
        math.prod(aval.shape) * aval.dtype.itemsize // parts(aval.shape)
        for aval in kept.values()
        if not jax.dtypes.issubdtype(aval.dtype, jax.dtypes.prng_key)
    )


def program(folder: pathlib.Path) -> str:
    """The dumped module of a device, partitioned; that of a single device is as it was lowered."""
    dumps = [*folder.glob(f"*after_{_DUMP}*.txt"), *folder.glob("*before_optimizations.txt")]
    return dumps[0].read_text()


def _main(folder: str) -> None:
    from distill_jax.data.records import to_features
    from distill_jax.models.families import make_network
    from distill_jax.training import losses, optimizers, partitioning, schedules
    from distill_jax.training.start import state_shapes
    from distill_jax.training.step import make_train_step

    job = Job.from_json(json.load(sys.stdin))
    began = time.monotonic()
    model = make_network(job.config)
    optimizer = getattr(optimizers, job.optimizer)(schedules.linear(1e-4, 10_000, 100))
    place = partitioning.make_partitioner(job.config, job.batch_size, job.microbatches, job.mesh, job.partition)
    whole, base = place.shapes(state_shapes(model, optimizer), model), None
    state = whole
    if job.lora is not None:
        state, base = place.shapes(state_shapes(model, optimizer, job.lora), model, job.lora), whole.params
    batch = {
        name: jax.ShapeDtypeStruct((job.batch_size, *x.shape), x.dtype, sharding=place.batch)
        for name, x in to_features([], job.lengths).items()
    }
    options = {"microbatches": job.microbatches, "loss_chunk": job.loss_chunk, "lora": job.lora}
    options["shardings"] = jax.tree.map(lambda x: x.sharding, state)
    step = make_train_step(model, optimizer, losses.step_by_step_weights(), **options)
    with place.active():
        memory = step.lower(state, batch, None, base).compile().memory_analysis()
    text = program(pathlib.Path(folder))
    found = {
        "parameters": _device_bytes((state.params, base)),
        "optimizer": _device_bytes(state.opt_state),
        "batch": _device_bytes(batch),
        "activations": _activation_bytes(job, model, state.params, base, batch),
        "temporaries": memory.temp_size_in_bytes,
        "not_donated": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "parameter_count": sum(math.prod(x.shape) for x in jax.tree.leaves(whole.params)),
        "trained_count": sum(math.prod(x.shape) for x in jax.tree.leaves(state.params)),
        "flops": hlo.matmul_flops(text),
        "collectives": [vars(c) for c in hlo.collectives(text, job.devices)],
        "seconds": time.monotonic() - began,
        "peak_rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    pathlib.Path(folder, _FIGURES).write_text(json.dumps(found))


if __name__ == "__main__":
    _main(*sys.argv[1:])
