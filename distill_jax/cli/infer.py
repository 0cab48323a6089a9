"""`distill-jax infer`."""

import argparse

from distill_jax.cli.common import add_command, add_label_flags, add_weights_flag, gin_flags


def _infer(args: argparse.Namespace) -> int:
    from distill_jax import infer

    names = {
        "model_dir": "MODEL_DIR",
        "input": "INPUT",
        "input_format": "INPUT_FORMAT",
        "input_column": "INPUT_COLUMN",
        "choices_column": "CHOICES_COLUMN",
        "rationale_column": "RATIONALE_COLUMN",
        "output": "OUTPUT",
        "step": "CHECKPOINT_STEP",
        "rationale": "RATIONALE",
        "label_by": "LABEL_BY",
        "normalize_scores": "NORMALIZE_SCORES",
        "batch_size": "BATCH_SIZE",
        "beams": "NUM_BEAMS",
        "length_penalty": "LENGTH_PENALTY",
        "temperature": "TEMPERATURE",
        "top_k": "TOP_K",
        "top_p": "TOP_P",
        "n_best": "N_BEST",
        "seed": "RANDOM_SEED",
        "weights": "WEIGHTS",
    }
    return infer.main(["--gin_file=runs/infer.gin", *gin_flags(args, names), *args.gin])


def add(commands) -> None:
    """Adds the command."""
    infer = add_command(commands, "infer", "predict labels and rationales for a file of inputs", _infer)
    infer.add_argument("model_dir", nargs="?")
    infer.add_argument("--input", help="JSONL, CSV or Parquet with `input`; default standard input")
    infer.add_argument("--output", help="JSONL, continued where it stopped; default standard output")
    infer.add_argument("--input-format", choices=("jsonl", "csv", "parquet"), help="default by the ending")
    for name, what in (("input", "the text"), ("choices", "labels to rank"), ("rationale", "the teacher's")):
        infer.add_argument(f"--{name}-column", metavar="COLUMN", help=f"column of {what}; default {name}")
    infer.add_argument("--step", type=int, help="of a checkpoint; default the latest")
    infer.add_argument("--rationale", action="store_const", const=True, help="predict rationales too")
    add_label_flags(infer)
    add_weights_flag(infer)
    infer.add_argument("--batch-size", type=int)
    infer.add_argument("--beams", type=int)
    infer.add_argument("--length-penalty", type=float, help="of beam search")
    infer.add_argument("--temperature", type=float, help="above 0 samples")
    infer.add_argument("--top-k", type=int)
    infer.add_argument("--top-p", type=float)
    infer.add_argument("--n-best", type=int, help="so many beams or samples of each, with scores")
    infer.add_argument("--seed", type=int)
