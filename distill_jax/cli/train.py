"""`distill-jax train`: a task or the user's own files, a method, a student."""

import argparse

from distill_jax.cli.common import add_command, add_data_flags, gin_flags, own_data
from distill_jax.data.views import METHODS


def _train(args: argparse.Namespace) -> int:
    from distill_jax import train
    from distill_jax.tasks import own

    flags = []
    args.own_data = own_data(args)
    if args.own_data is not None:
        args.task = own.own_name(args.own_data)
    if args.task:
        flags = [
            f"--gin_file=models/{args.model}.gin",
            f"--gin_file=recipes/{args.method}.gin",
            f"--gin.MIXTURE_OR_TASK_NAME={args.task}_{args.method}",
        ]
    names = {
        "model_dir": "MODEL_DIR",
        "steps": "TRAIN_STEPS",
        "batch_size": "BATCH_SIZE",
        "learning_rate": "LEARNING_RATE",
        "alpha": "ALPHA",
        "lengths": "TASK_FEATURE_LENGTHS",
        "vocabulary": "VOCABULARY",
        "data_dir": "DATA_DIR",
        "teacher": "TEACHER",
        "data_fraction": "DATA_FRACTION",
        "label_source": "LABEL_SOURCE",
        "init": "INITIAL_CHECKPOINT_PATH",
        "own_data": "OWN_DATA",
        "teacher_checkpoint": "TEACHER_CHECKPOINT_PATH",
        "teacher_top_k": "TEACHER_TOP_K",
        "temperature": "TEMPERATURE",
        "divergence": "DIVERGENCE",
        "only_agreeing": "ONLY_AGREEING",
        "seed": "RANDOM_SEED",
        "module": "MIXTURE_OR_TASK_MODULE",
    }
    return train.main(flags + gin_flags(args, names) + args.gin)


def add(commands) -> None:
    """Adds the command."""
    train = add_command(commands, "train", "train a student", _train)
    train.add_argument("task", nargs="?", help="such as svamp; without it, give --gin_file")
    train.add_argument("--method", default="step_by_step", choices=METHODS)
    train.add_argument("--model", default="t5_1_1/small", help="a file of gin_configs/models")
    train.add_argument("--model-dir", help="folder of the run")
    train.add_argument("--steps", type=int)
    train.add_argument("--batch-size", type=int, help="packed rows")
    train.add_argument("--learning-rate", type=float)
    train.add_argument("--alpha", type=float, help="weight of the label loss")
    train.add_argument("--label-source", choices=("reference", "teacher"))
    train.add_argument("--data-fraction", type=float)
    train.add_argument(
        "--init", help="run, T5X or Hugging Face checkpoint to start from; or gs://, hf://ORG/NAME"
    )
    train.add_argument("--seed", type=int)
    train.add_argument("--teacher-checkpoint", help="white-box teacher of logit_distillation")
    train.add_argument("--teacher-top-k", type=int, help="run the teacher once, keep so many next tokens")
    train.add_argument("--temperature", type=float, help="of soft_labels and logit_distillation")
    train.add_argument("--divergence", choices=("forward_kl", "reverse_kl", "jensen_shannon"))
    train.add_argument("--only-agreeing", action="store_const", const=True, help="rows the teacher got right")
    add_data_flags(train)
