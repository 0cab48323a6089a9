"""`distill-jax annotate` and `distill-jax store`: labels and rationales from a teacher, in a store."""

import argparse
import functools
import sys
from collections.abc import Callable

from distill_jax.cli.common import add_command
from distill_jax.data.schema import FIELDS
from distill_jax.errors import UserError

CLIENTS = ("openai", "anthropic", "gemini", "transformers", "checkpoint")
EXTRA = ("bm25s", "openai", "pydantic", "scipy", "tenacity", "yaml")
STOPPED = 3  # exit status when a budget or a signal ended the run
CHECKS = ("arithmetic", "label-named", "label-not-named")


def with_extra(function: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """Names the extra where one of its packages is not installed."""

    @functools.wraps(function)
    def run(args: argparse.Namespace) -> int:
        try:
            return function(args)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in EXTRA:
                raise
            raise UserError(f"{error}: pip install 'distill_jax[teachers]'") from None

    return run


def positive(text: str) -> int:
    """A flag's whole number above 0."""
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0: {text!r}")
    return int(text)


def _amount(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0: {text!r}")
    return value


def _temperature(text: str) -> float | str:
    if text == "none":
        return text
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, or none: {text!r}")
    return value


@with_extra
def _annotate(args: argparse.Namespace) -> int:
    from distill_jax.teachers.session import Session

    session = Session(args)
    if args.dry_run:
        _print_preview(session.preview())
        return 0
    with session:
        show = _progress(session)
        outcome = session.ask(show)
        show(outcome, last=True)
        for failure in outcome.failures:
            print(failure, file=sys.stderr)
        if outcome.fatal:
            raise UserError(f"{outcome.stopped}; {outcome.stored} completions were added to the store")
        if outcome.stopped:
            print(f"stopped: {outcome.stopped}; the same command resumes the run", file=sys.stderr)
        if args.output or args.report:
            _print_delivery(args, session.deliver())
    if outcome.stopped:
        return STOPPED
    if outcome.failed:
        raise UserError(f"{outcome.failed} requests got no answer: the same command asks for them again")
    return 0


def _progress(session):
    """A function that shows the progress of a run: on a terminal ten times a second, else twice a minute."""
    import time

    begun = shown = time.monotonic()
    live = sys.stderr.isatty()

    def show(outcome, last: bool = False) -> None:
        nonlocal shown
        now = time.monotonic()
        if not last and now - shown < (0.1 if live else 30.0):
            return
        shown = now
        store, rate = session.store, outcome.answered / max(now - begun, 1e-9)
        cost = f", {store.spent.usd:.4f} USD" if session.price else ""
        line = (
            f"{outcome.stored} completions added, {outcome.complete} rows complete before, {outcome.failed} "
            f"failed, {rate:.0f} requests/s; the store: {store.rows} completions, {store.spent.tokens:,} "
            f"tokens{cost}"
        )
        print(f"\r{line}\033[K" if live else line, end="" if live and not last else "\n", file=sys.stderr)

    return show


def _print_preview(preview) -> None:
    plan, price, prompt = preview.plan, preview.price, preview.prompt
    print(f"--- row {preview.example.id}, prompt {plan.template.version}, {plan.protocol}")
    if plan.protocol == "chat":
        for message in prompt.messages():
            print(f"[{message['role']}]\n{message['content']}")
    else:
        print(prompt.text())
    cost = "price not known: give --price PROMPT,COMPLETION"
    if price:
        tokens = preview.prompt_tokens
        most = price.of(tokens, preview.answer_tokens)
        cost = f"{price.of(tokens, 0):.2f} USD for prompts, at most {most:.2f} USD in all"
    print(
        f"--- {preview.rows:,} rows, {plan.samples} samples each: about {preview.prompt_tokens:,} tokens of "
        f"prompts, at most {preview.answer_tokens:,} of answers; {cost}"
    )


def _print_delivery(args: argparse.Namespace, delivery) -> None:
    from distill_jax.teachers.report import figures_table

    if args.output:
        left_out = f", {delivery.left_out} without label and answer left out" if delivery.left_out else ""
        print(f"{args.output}: {delivery.written} rows{left_out}")
    for name, value in figures_table(delivery.figures):
        print(f"{name:45} {value}")
    if args.report:
        print(args.report)


@with_extra
def _store_import(args: argparse.Namespace) -> int:
    from distill_jax.teachers.transfer import import_files

    added, present = import_files(args)
    print(f"{args.store}: {added} completions added, {present} were in it")
    return 0


@with_extra
def _store_export(args: argparse.Namespace) -> int:
    from distill_jax.teachers.transfer import export_rows

    exported = export_rows(args)
    if isinstance(exported, list):
        print("\n".join(map(str, exported)))
    else:
        _print_delivery(args, exported)
    return 0


def add_rows_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that say which rows to read; see `teachers.settings.rows_of`."""
    parser.add_argument("source", help="a task such as svamp, or a JSONL, CSV or Parquet file")
    parser.add_argument("--split", default="train")
    parser.add_argument("--data-dir", help="folder of the data sets (or DISTILL_JAX_DATA_DIR)")
    parser.add_argument("--module", help="Python module that registers the task")
    parser.add_argument("--classes", help="the labels there are, with commas between them; of a file")
    for field in FIELDS:
        flag = field.replace("_", "-")
        help_text = f"column of {field}; of a file"
        parser.add_argument(f"--{flag}", dest=f"column_{field}", metavar="COLUMN", help=help_text)


def _add_output_flags(parser: argparse.ArgumentParser, needed: bool) -> None:
    parser.add_argument("--output", required=needed, help="JSONL for `train --data`")
    parser.add_argument("--report", help="HTML page of the teacher's quality; a .json is put beside it")
    parser.add_argument(
        "--check",
        action="append",
        default=[],
        choices=CHECKS,
        help="what a rationale has to pass for its sample to count; may be repeated",
    )


def add(commands) -> None:
    """Adds the commands."""
    annotate = add_command(commands, "annotate", "labels and rationales from a teacher LLM", _annotate)
    add_rows_flags(annotate)
    annotate.add_argument("--ids", metavar="FILE", help="only these rows: ids, one a line, or JSONL with id")
    annotate.add_argument("--limit", type=positive, help="only the first so many rows")

    teacher = annotate.add_argument_group("the teacher")
    teacher.add_argument("--client", default="openai", choices=CLIENTS)
    teacher.add_argument("--model", required=True, help="as the endpoint calls it; a folder for a local one")
    teacher.add_argument("--base-url", help="of an OpenAI-compatible server, such as http://localhost:8000/v1")
    teacher.add_argument("--protocol", choices=("chat", "completions"), help="default chat")
    teacher.add_argument("--api-key-env", metavar="NAME", help="environment variable that holds the key")
    teacher.add_argument("--extra-body", metavar="JSON", help="fields to add to every request")

    prompt = annotate.add_argument_group("the prompt")
    prompt.add_argument("--prompt", help="YAML file or shipped name; default the task's")
    prompt.add_argument("--demonstrations", metavar="FILE", help="JSONL to choose demonstrations from")
    prompt.add_argument("--select", default="fixed", choices=("fixed", "random", "nearest"))
    prompt.add_argument("--shots", type=int, help="demonstrations shown; default all")
    prompt.add_argument("--structured", action="store_true", help="ask for JSON by a schema")
    prompt.add_argument("--dry-run", action="store_true", help="print a prompt and the cost; ask nobody")
    prompt.add_argument("--row", metavar="ID", help="the row whose prompt --dry-run prints")

    sampling = annotate.add_argument_group("sampling")
    sampling.add_argument("--samples", type=positive, default=1, help="for self-consistency")
    sampling.add_argument("--samples-per-request", type=positive, default=1, help="where the server takes n")
    sampling.add_argument(
        "--temperature", type=_temperature, help="default 0, or 0.7 for several samples; none: not sent"
    )
    sampling.add_argument("--top-p", type=float)
    sampling.add_argument("--max-tokens", type=positive, default=256)
    sampling.add_argument("--seed", type=int)
    sampling.add_argument("--logprobs", type=int, default=0, metavar="K", help="for class probabilities")

    limits = annotate.add_argument_group("limits")
    limits.add_argument("--concurrency", type=positive, default=32)
    limits.add_argument("--requests-per-minute", type=_amount)
    limits.add_argument("--tokens-per-minute", type=_amount)
    limits.add_argument("--timeout", type=_amount, default=60.0, help="seconds of one request")
    limits.add_argument("--attempts", type=positive, default=8)
    limits.add_argument("--first-wait", type=_amount, default=0.5, help="seconds before the second attempt")
    limits.add_argument("--budget-requests", type=_amount, help="of the store, earlier runs included")
    limits.add_argument("--budget-tokens", type=_amount, help="the same")
    limits.add_argument("--budget-usd", type=_amount, help="the same")
    limits.add_argument("--price", metavar="PROMPT,COMPLETION", help="dollars per million tokens")
    limits.add_argument("--prices", metavar="FILE", help="YAML of model: [prompt, completion]")

    batch = annotate.add_argument_group("batch API")
    batch.add_argument("--batch", action="store_true", help="files of requests, answered within a day")
    batch.add_argument("--batch-size", type=positive, default=10_000)
    batch.add_argument("--batch-share", type=_amount, default=0.5, help="of the price")
    batch.add_argument("--poll", type=_amount, default=60.0, help="seconds between looks")

    annotate.add_argument("--store", metavar="FILE", help="JSONL of all completions, added to")
    _add_output_flags(annotate, needed=False)

    store = commands.add_parser("store", help="bring completions into a store, and out of it")
    store_commands = store.add_subparsers(required=True, metavar="COMMAND")
    imported = add_command(store_commands, "import", "the llm/ files of a task into a store", _store_import)
    add_rows_flags(imported)
    imported.add_argument("--store", required=True)
    imported.add_argument("--model", default="palm-540b", help="what to call the teacher")
    imported.add_argument("--parser", help="how the completions read; default the task's")

    exported = add_command(store_commands, "export", "rows, figures or llm/ files from a store", _store_export)
    add_rows_flags(exported)
    exported.add_argument("--store", required=True)
    exported.add_argument("--layout", default="jsonl", choices=("jsonl", "reference"))
    exported.add_argument("--chunk-size", type=positive, help="completions in a file of the reference layout")
    exported.add_argument("--model", help="only completions of this one")
    exported.add_argument("--template", help="only completions of this prompt, NAME or NAME@HASH")
    exported.add_argument("--prompt", help="YAML file or shipped name; default the task's")
    _add_output_flags(exported, needed=True)
