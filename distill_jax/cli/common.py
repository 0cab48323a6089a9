"""What several commands share: flags of the data, and flags that become gin's."""

import argparse
from collections.abc import Callable, Mapping

from distill_jax.data.schema import FIELDS
from distill_jax.errors import UserError


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
    """Flags that say what data to read, and how to tokenize and pack it; see `use_data`."""
    parser.add_argument("--data-dir", help="folder of the data sets (or DISTILL_JAX_DATA_DIR)")
    parser.add_argument("--teacher", help="folder of the completions in a set: llm; none for rows alone")
    parser.add_argument("--vocabulary", help="bytes, a SentencePiece file or URL, or train:SIZE")
    parser.add_argument("--lengths", type=lengths, metavar="INPUTS,TARGETS", help="of a packed row")
    parser.add_argument("--module", help="Python module that registers the task")
    own = parser.add_argument_group("your own data, instead of a task")
    own.add_argument("--data", help="JSONL, CSV or Parquet file to train on; or tfds:NAME, hf:NAME, seqio:TASK")
    own.add_argument("--validation-data", help="another, or a split of the set; default: a tenth of --data")
    own.add_argument("--test-data", help="likewise; default: the validation rows")
    own.add_argument("--rationales", help="file with the teacher's answers, joined by id")
    own.add_argument("--classes", help="the labels there are, with commas between them")
    for field in FIELDS:
        flag = field.replace("_", "-")
        own.add_argument(f"--{flag}", dest=f"column_{field}", metavar="COLUMN", help=f"column of {field}")


def use_data(args: argparse.Namespace) -> dict | None:
    """Makes the data flags count in this process; registers the user's own data and sets `args.task` to it.

    Returns:
      The description of the own data, of `data.own.describe`; None for a task.

    Raises:
      UserError: for both a task and own data, and for neither.
    """
    from distill_jax.data import sources
    from distill_jax.tasks import own, registry

    sources.use(args.data_dir, args.teacher)
    if args.data and args.task:
        raise UserError(f"give a task ({args.task}) or --data {args.data}, not both")
    if not args.data:
        return None
    columns = {field: value for field in FIELDS if (value := getattr(args, f"column_{field}"))}
    classes = args.classes.split(",") if args.classes else None
    files = (args.data, args.validation_data, args.test_data, args.rationales)
    description = own.describe(*files, columns, classes, args.module)
    with registry.without_seqio():
        args.task = own.register_own(description).name
    return description


def needs_task(args: argparse.Namespace) -> str:
    """The task that `use_data` left.

    Raises:
      UserError: when neither a task nor --data was given.
    """
    if not args.task:
        raise UserError("give a task, such as svamp (distill-jax data list), or your own data with --data")
    return args.task


def add_label_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that say how a label is found."""
    parser.add_argument(
        "--label-by",
        choices=("generate", "rank", "constrain"),
        help="rank: the likeliest of the choices or classes; constrain: write what can only be one of these",
    )
    parser.add_argument(
        "--normalize-scores",
        action="store_const",
        const=True,
        help="rank by the mean of the tokens' log-probabilities, not by their sum",
    )


def add_weights_flag(parser: argparse.ArgumentParser) -> None:
    """The flag that says what weights are kept in."""
    parser.add_argument(
        "--weights", choices=("float32", "bfloat16", "int8"), help="what they are kept in; default float32"
    )


def gin_flags(args: argparse.Namespace, names: Mapping[str, str]) -> list[str]:
    """`--gin.NAME=value` for each flag that was given."""
    given = {gin: getattr(args, flag) for flag, gin in names.items()}
    return [f"--gin.{gin}={value}" for gin, value in given.items() if value is not None]
