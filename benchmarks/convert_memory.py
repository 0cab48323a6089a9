"""Peak memory and time of converting a generated checkpoint of T5 1.1 XL (2.85B parameters) between formats.

    python -m benchmarks.convert_memory [--scratch DIR] [--model t5_1_1/xl] [--limit-gib 4]

Goes through a chain of formats, each read from what the last conversion wrote, and converts a run with
scanned layers as training on one device leaves it, all layers of a parameter in one chunk. Each conversion
runs in a process of its own, whose peak resident memory is Linux's `VmHWM`, which counts mapped files too.
Fails where one passes the limit. Needs twice the model's size on the disk: about 23 GB for XL.
"""

import argparse
import dataclasses
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np

GIN = pathlib.Path(__file__).resolve().parent.parent / "gin_configs" / "models"
CHAIN = (
    ("huggingface", []),
    ("distill-jax", ["--scan-layers"]),
    ("t5x-orbax", []),
    ("t5x-orbax", ["--no-ocdbt"]),
    ("distill-jax", []),
    ("t5x", []),
)


def model_config(model: str):
    """The `T5Config` of a file in gin_configs/models."""
    from distill_jax.models.config import T5Config

    text = (GIN / f"{model}.gin").read_text() + (GIN / model).parent.joinpath("common.gin").read_text()
    fields = dict(re.findall(r"^  (\w+) = (\d+)$", text, re.MULTILINE))
    vocab_size = int(re.search(r"^VOCAB_SIZE = (\d+)", text, re.MULTILINE)[1])
    gated = "('gelu', 'linear')" in text
    return T5Config(
        vocab_size=vocab_size,
        mlp_activations=("gelu", "linear") if gated else ("relu",),
        logits_via_embedding="logits_via_embedding = True" in text,
        **{name: int(value) for name, value in fields.items()},
    )


def random(shape):
    """A reader of random values in place of a stored parameter."""
    return lambda index: np.random.default_rng(0).standard_normal(shape, np.float32)


def generate(folder: pathlib.Path, config) -> int:
    """Writes a T5X checkpoint of random parameters; their number."""
    from distill_jax.checkpoints.other_formats.parameters import Parameter, expected_shapes
    from distill_jax.checkpoints.other_formats.t5x_legacy import write_legacy

    shapes = expected_shapes(config)
    write_legacy(folder, 1, {name: Parameter(shape, random(shape)) for name, shape in shapes.items()})
    return sum(int(np.prod(shape)) for shape in shapes.values())


def generate_scanned_run(folder: pathlib.Path, config) -> None:
    """Writes a run of random parameters, each with all its layers in one chunk."""
    from distill_jax.checkpoints import run_dir
    from distill_jax.checkpoints.orbax_trees import write_tree
    from distill_jax.checkpoints.other_formats.parameters import Parameter, expected_shapes, stack

    shapes = expected_shapes(config)
    stacked = stack({name: Parameter(shape, random(shape)) for name, shape in shapes.items()})
    config = dataclasses.replace(config, scan_layers=True)
    run = run_dir.Run(
        mixture_or_task_name="svamp_step_by_step",
        label_source="reference",
        module=None,
        task_feature_lengths={"inputs": 512, "targets": 256},
        vocabulary="",
        data="",
        model=dataclasses.asdict(config),
        batch_size=1,
        seed=0,
        view_weights={},
    )
    run_dir.claim(str(folder), run)
    values = {name: Parameter(p.shape, random(p.shape)) for name, p in stacked.items()}
    write_tree(folder / "checkpoints", 1, "params", values, {"step": np.asarray(1, np.int32)})


def convert(source: pathlib.Path, destination: pathlib.Path, to: str, flags: list[str]) -> dict[str, float]:
    """One conversion in its own process: seconds and peak GiB."""
    program = (
        "import sys\n"
        "from distill_jax.cli import main\n"
        "status = main(sys.argv[1:])\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))\n"
        "sys.exit(status)"
    )
    command = [sys.executable, "-c", program, "convert", str(source), str(destination), "--to", to, *flags]
    start = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return {"seconds": time.monotonic() - start, "peak_gib": float(done.stdout.split()[-1]) / 2**20}


def main() -> int:
    """Runs the chain; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch")
    parser.add_argument("--model", default="t5_1_1/xl")
    parser.add_argument("--limit-gib", type=float, default=4.0)
    args = parser.parse_args()
    config = model_config(args.model)
    rows = []
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        source = pathlib.Path(scratch) / "0-t5x" / "checkpoint_1"
        count = generate(source, config)
        source, before = source.parent, "t5x"
        print(f"{args.model}: {count / 1e9:.2f}B parameters, {count * 4 / 2**30:.1f} GiB in float32")
        for number, (to, flags) in enumerate(CHAIN, 1):
            destination = pathlib.Path(scratch) / f"{number}-{to}"
            row = {"from": before, "to": " ".join([to, *flags]), **convert(source, destination, to, flags)}
            print(json.dumps(row), flush=True)
            rows.append(row)
            shutil.rmtree(source)
            source, before = destination, row["to"]
        shutil.rmtree(source)
        source = pathlib.Path(scratch) / "scanned"
        generate_scanned_run(source, config)
        for to in ("huggingface", "t5x-orbax"):
            destination = pathlib.Path(scratch) / f"scanned-{to}"
            row = {"from": "scanned run", "to": to, **convert(source, destination, to, [])}
            print(json.dumps(row), flush=True)
            rows.append(row)
            shutil.rmtree(destination)
    worst = max(row["peak_gib"] for row in rows)
    print(f"highest peak {worst:.2f} GiB, limit {args.limit_gib} GiB")
    return int(worst > args.limit_gib)


if __name__ == "__main__":
    sys.exit(main())
