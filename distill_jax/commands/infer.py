"""`distill-jax infer`."""

import argparse

from distill_jax.commands.common import add_command, gin_flags


def _infer(args: argparse.Namespace) -> int:
    from distill_jax import infer

    names = {
        "model_dir": "MODEL_DIR",
        "input": "INPUT",
        "output": "OUTPUT",
        "step": "CHECKPOINT_STEP",
        "batch_size": "BATCH_SIZE",
        "beams": "NUM_BEAMS",
        "rationale": "RATIONALE",
    }
    return infer.main(["--gin_file=runs/infer.gin", *gin_flags(args, names), *args.gin])


def add(commands) -> None:
    """Adds the command."""
    infer = add_command(commands, "infer", "predict labels and rationales for JSON lines", _infer)
    infer.add_argument("model_dir", nargs="?")
    infer.add_argument("--input", help="JSONL with `input`; default standard input")
    infer.add_argument("--output", help="JSONL; default standard output")
    infer.add_argument("--step", type=int)
    infer.add_argument("--rationale", action="store_const", const=True)
    infer.add_argument("--batch-size", type=int)
    infer.add_argument("--beams", type=int)
