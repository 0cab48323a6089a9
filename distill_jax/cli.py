"""The command `distill-jax`. Everything heavy is imported where it is used: `--help` answers at once."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable

from distill_jax.errors import UserError

METHODS = (
    "standard",
    "task_distillation",
    "step_by_step",
    "single_task",
    "rationale_input",
    "soft_labels",
    "logit_distillation",
)
FIELDS = ("id", "input", "label", "teacher_label", "rationale", "label_probs", "choices")


def _lengths(text: str) -> dict[str, int]:
    try:
        inputs, targets = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected INPUTS,TARGETS such as 512,256: {text!r}") from None
    return {"inputs": inputs, "targets": targets}


def _add_data_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", help="folder of the data sets (or DISTILL_JAX_DATA_DIR)")
    parser.add_argument("--vocabulary", help="bytes, a SentencePiece file or URL, or train:SIZE")
    parser.add_argument("--lengths", type=_lengths, metavar="INPUTS,TARGETS", help="of a packed row")
    parser.add_argument("--module", help="Python module that registers the task")


def _use_data_dir(args: argparse.Namespace) -> None:
    if args.data_dir:
        os.environ["DISTILL_JAX_DATA_DIR"] = args.data_dir


def _data_list(args: argparse.Namespace) -> int:
    from distill_jax import tasks
    from distill_jax.data import registry

    with registry.without_seqio():
        for name, module in sorted(tasks.MODULES.items()):
            registry.get_task(name)
            print(f"{name:14} {sys.modules[f'distill_jax.tasks.{module}'].__doc__.splitlines()[0]}")
    return 0


def _data_show(args: argparse.Namespace) -> int:
    import itertools

    from rich.console import Console
    from rich.text import Text

    from distill_jax.data import registry

    _use_data_dir(args)
    with registry.without_seqio():
        task, views = registry.resolve(f"{args.task}_step_by_step", module=args.module)
    console = Console()
    for example in itertools.islice(task.source.examples(args.split), args.count):
        console.print(Text(f"{example.id}  teacher: {example.teacher_label}", style="bold"))
        for view in views:
            texts = view(example)
            inputs, targets = texts if texts else (view.inputs(example), "(no target)")
            console.print(Text(f"  inputs   {inputs!r}\n  targets  {targets!r}"))
    return 0


def _data_stats(args: argparse.Namespace) -> int:
    from distill_jax.data.statistics import task_statistics

    _use_data_dir(args)
    figures = task_statistics(
        args.task,
        splits=[args.split] if args.split else None,
        vocabulary=args.vocabulary or "train:2000",
        task_feature_lengths=args.lengths,
        module=args.module,
    )
    if args.json:
        print(json.dumps(figures, indent=2))
        return 0
    from rich.console import Console
    from rich.table import Table

    lengths = figures["task_feature_lengths"]
    table = Table(
        title=f"{figures['task']}: vocabulary {figures['vocabulary']}, rows of {lengths['inputs']} and "
        f"{lengths['targets']} tokens"
    )
    for column in ("split", "rows", "teacher accuracy", "unparsed", "tokens (mean / p99)", "fill"):
        table.add_column(column)
    for split, row in figures["splits"].items():
        accuracy = row["teacher_accuracy"]
        tokens = ", ".join(
            f"{field} {seen['mean']:.0f} / {seen['p99']:.0f}" for field, seen in row["token_lengths"].items()
        )
        table.add_row(
            split,
            str(row["rows"]),
            "-" if accuracy is None else f"{accuracy:.4f}",
            str(row["unparsed"]),
            tokens,
            f"{row['packing_fill']['encoder']:.1%} / {row['packing_fill']['decoder']:.1%}",
        )
    Console().print(table)
    return 0


def _prepare(args: argparse.Namespace) -> int:
    from distill_jax.data.prepare import prepare

    _use_data_dir(args)
    prepared = prepare(
        f"{args.task}_{args.method}",
        args.split,
        vocabulary=args.vocabulary or "train:2000",
        task_feature_lengths=args.lengths or {"inputs": 512, "targets": 256},
        label_source=args.label_source,
        data_fraction=args.data_fraction,
        module=args.module,
    )
    manifest = prepared.manifest
    print(
        f"{manifest['examples']} examples in {manifest['rows']} rows, encoder "
        f"{manifest['encoder_fill']:.1%} full: {prepared.path}"
    )
    return 0


def _gin_flags(args: argparse.Namespace, names: dict[str, str]) -> list[str]:
    """`--gin.NAME=value` for each flag that was given."""
    given = {gin: getattr(args, flag) for flag, gin in names.items()}
    return [f"--gin.{gin}={value}" for gin, value in given.items() if value is not None]


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
    return train.main(flags + _gin_flags(args, names) + args.gin)


def _eval(args: argparse.Namespace) -> int:
    from distill_jax import eval as eval_script

    names = {
        "model_dir": "MODEL_DIR",
        "split": "SPLIT",
        "step": "CHECKPOINT_STEP",
        "batch_size": "BATCH_SIZE",
        "beams": "NUM_BEAMS",
        "data_dir": "DATA_DIR",
    }
    return eval_script.main(["--gin_file=runs/eval.gin", *_gin_flags(args, names), *args.gin])


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
    return infer.main(["--gin_file=runs/infer.gin", *_gin_flags(args, names), *args.gin])


def _demo(args: argparse.Namespace) -> int:
    from distill_jax.demo import main

    return main.run(task=args.task, seeds=args.seeds, output=args.output)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="distill-jax",
        description="Distilling step-by-step in JAX: small T5 students from labels and rationales.",
        epilog="train, eval and infer also take T5X's --gin_file, --gin.NAME=VALUE, --gin_search_paths.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(parent, name: str, help_text: str, function: Callable) -> argparse.ArgumentParser:
        sub = parent.add_parser(name, help=help_text, description=help_text)
        sub.set_defaults(function=function)
        return sub

    demo = command(commands, "demo", "standard against step-by-step, in minutes, on CPU", _demo)
    demo.add_argument("--task", default="entailment", help="an embedded task")
    demo.add_argument("--seeds", type=int, default=1, help="repeat over so many seeds")
    demo.add_argument("--output", default="demo", help="folder of report.html and results.json")

    data = commands.add_parser("data", help="look at tasks and their statistics")
    data_commands = data.add_subparsers(required=True, metavar="COMMAND")
    command(data_commands, "list", "the tasks there are", _data_list)
    show = command(data_commands, "show", "examples of a task as the student sees them", _data_show)
    show.add_argument("task")
    show.add_argument("--split", default="train")
    show.add_argument("--count", type=int, default=3)
    _add_data_flags(show)
    stats = command(data_commands, "stats", "rows, teacher accuracy, lengths, fill", _data_stats)
    stats.add_argument("task")
    stats.add_argument("--split")
    stats.add_argument("--json", action="store_true")
    _add_data_flags(stats)

    prepare = command(commands, "prepare", "tokenize and pack a task ahead of training", _prepare)
    prepare.add_argument("task")
    prepare.add_argument("--method", default="step_by_step", choices=METHODS)
    prepare.add_argument("--split", default="train")
    prepare.add_argument("--label-source", default="gold", choices=("gold", "teacher"))
    prepare.add_argument("--data-fraction", type=float, default=1.0)
    _add_data_flags(prepare)

    train = command(commands, "train", "train a student", _train)
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
    train.add_argument("--init", help="a run's folder or a Hugging Face folder to start from")
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
    _add_data_flags(train)

    evaluate = command(commands, "eval", "score a trained student", _eval)
    evaluate.add_argument("model_dir", nargs="?")
    evaluate.add_argument("--split")
    evaluate.add_argument("--step", help="a checkpoint's step, or all; default the latest")
    evaluate.add_argument("--data-dir")

    infer = command(commands, "infer", "predict labels and rationales for JSON lines", _infer)
    infer.add_argument("model_dir", nargs="?")
    infer.add_argument("--input", help="JSONL with `input`; default standard input")
    infer.add_argument("--output", help="JSONL; default standard output")
    infer.add_argument("--step", type=int)
    infer.add_argument("--rationale", action="store_const", const=True)
    for sub in (evaluate, infer):
        sub.add_argument("--batch-size", type=int)
        sub.add_argument("--beams", type=int)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs the command; the exit status."""
    logging.basicConfig(format="%(message)s")
    argv = sys.argv[1:] if argv is None else argv
    # argparse would read --gin.X as an abbreviation; gin flags go through as they are.
    gin = [flag for flag in argv if flag.startswith(("--gin_", "--gin."))]
    args = _parser().parse_args([flag for flag in argv if flag not in gin])
    args.gin = gin
    try:
        return args.function(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


if __name__ == "__main__":
    sys.exit(main())
