"""`distill-jax eval`."""

import argparse

from distill_jax.cli.common import add_command, add_label_flags, add_weights_flag, gin_flags


def _eval(args: argparse.Namespace) -> int:
    from distill_jax import eval as eval_script

    names = {
        "model_dir": "MODEL_DIR",
        "split": "SPLIT",
        "step": "CHECKPOINT_STEP",
        "batch_size": "BATCH_SIZE",
        "label_by": "LABEL_BY",
        "normalize_scores": "NORMALIZE_SCORES",
        "beams": "NUM_BEAMS",
        "data_dir": "DATA_DIR",
        "weights": "WEIGHTS",
        "compare_weights": "COMPARE_WEIGHTS",
    }
    return eval_script.main(["--gin_file=runs/eval.gin", *gin_flags(args, names), *args.gin])


def add(commands) -> None:
    """Adds the command."""
    evaluate = add_command(commands, "eval", "score a trained student", _eval)
    evaluate.add_argument("model_dir", nargs="?")
    evaluate.add_argument("--split")
    evaluate.add_argument("--step", help="a checkpoint's step, or all; default the latest")
    evaluate.add_argument("--data-dir")
    evaluate.add_argument("--batch-size", type=int)
    evaluate.add_argument("--beams", type=int)
    add_label_flags(evaluate)
    add_weights_flag(evaluate)
    evaluate.add_argument(
        "--compare-weights",
        action="store_const",
        const=True,
        help="evaluate with float32 weights too, and print what the others cost",
    )
