"""What several commands share: flags of the data, and flags that become gin's."""

import argparse
import os
from collections.abc import Callable, Mapping

METHODS = (
    "standard",
    "task_distillation",
    "step_by_step",
    "single_task",
    "rationale_input",
    "soft_labels",
    "logit_distillation",
)


def add_command(commands, name: str, help_text: str, function: Callable) -> argparse.ArgumentParser:
    """A subcommand that calls `function(args)`, which returns the exit status."""
    parser = commands.add_parser(name, help=help_text, description=help_text)
    parser.set_defaults(function=function)
    return parser


def lengths(text: str) -> dict[str, int]:
    """Reads `512,256`."""
    try:
        inputs, targets = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected INPUTS,TARGETS such as 512,256: {text!r}") from None
    return {"inputs": inputs, "targets": targets}


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that say what data to read, and how to tokenize and pack it."""
    parser.add_argument("--data-dir", help="folder of the data sets (or DISTILL_JAX_DATA_DIR)")
    parser.add_argument("--vocabulary", help="bytes, a SentencePiece file or URL, or train:SIZE")
    parser.add_argument("--lengths", type=lengths, metavar="INPUTS,TARGETS", help="of a packed row")
    parser.add_argument("--module", help="Python module that registers the task")


def add_label_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that say how a label is found."""
    parser.add_argument(
        "--label-by", choices=("generate", "rank"), help="rank: the likeliest of the choices or classes"
    )
    parser.add_argument(
        "--raw-scores",
        dest="normalize_scores",
        action="store_const",
        const=False,
        help="rank by the sum of the tokens' log-probabilities, not their mean",
    )


def use_data_dir(args: argparse.Namespace) -> None:
    """Makes `--data-dir` the folder of the data sets."""
    if args.data_dir:
        os.environ["DISTILL_JAX_DATA_DIR"] = args.data_dir


def gin_flags(args: argparse.Namespace, names: Mapping[str, str]) -> list[str]:
    """`--gin.NAME=value` for each flag that was given."""
    given = {gin: getattr(args, flag) for flag, gin in names.items()}
    return [f"--gin.{gin}={value}" for gin, value in given.items() if value is not None]
