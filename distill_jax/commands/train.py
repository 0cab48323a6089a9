"""`distill-jax train`: a task or the user's own files, a method, a student."""

import argparse

from distill_jax.commands.common import METHODS, add_command, add_data_flags, gin_flags
from distill_jax.errors import UserError

FIELDS = ("id", "input", "label", "teacher_label", "rationale", "label_probs", "choices")


def _own_data(args: argparse.Namespace) -> dict:
    """The description of the user's own files; sets the task's name."""
    from distill_jax.data import own

    columns = {field: value for field in FIELDS if (value := getattr(args, f"column_{field}"))}
    classes = args.classes.split(",") if args.classes else None
    description = own.describe(args.data, args.validation_data, args.test_data, columns, classes)
    args.task = own.own_name(description)
    return description


def _train(args: argparse.Namespace) -> int:
    from distill_jax import train

    flags = []
    if args.data:
        if args.task:
            raise UserError(f"give a task ({args.task}) or --data {args.data}, not both")
        args.own_data = _own_data(args)
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
        "data_fraction": "DATA_FRACTION",
        "label_source": "LABEL_SOURCE",
        "init": "INITIAL_CHECKPOINT_PATH",
        "own_data": "OWN_DATA",
        "teacher_checkpoint": "TEACHER_CHECKPOINT_PATH",
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
    train.add_argument("--label-source", choices=("gold", "teacher"))
    train.add_argument("--data-fraction", type=float)
    train.add_argument(
        "--init", help="run, T5X or Hugging Face checkpoint to start from; or gs://, hf://ORG/NAME"
    )
    train.add_argument("--seed", type=int)
    train.add_argument("--teacher-checkpoint", help="white-box teacher of logit_distillation")
    train.add_argument("--temperature", type=float, help="of soft_labels and logit_distillation")
    train.add_argument("--divergence", choices=("forward_kl", "reverse_kl", "jensen_shannon"))
    train.add_argument("--only-agreeing", action="store_const", const=True, help="rows the teacher got right")
    train.set_defaults(own_data=None)
    own = train.add_argument_group("your own files, instead of a task")
    own.add_argument("--data", help="JSONL, CSV or Parquet file to train on")
    own.add_argument("--validation-data", help="default: a tenth of --data, held out")
    own.add_argument("--test-data", help="default: the validation rows")
    own.add_argument("--classes", help="the labels there are, with commas between them")
    for field in FIELDS:
        flag = field.replace("_", "-")
        own.add_argument(f"--{flag}", dest=f"column_{field}", metavar="COLUMN", help=f"column of {field}")
    add_data_flags(train)
