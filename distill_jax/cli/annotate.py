"""`distill-jax annotate` and `distill-jax store`: labels and rationales from a teacher, kept for good."""

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


def rows_of(args: argparse.Namespace):
    """The rows that the flags of `add_rows_flags` name."""
    from distill_jax.teachers.rows import task_or_file

    columns = {field: value for field in FIELDS if (value := getattr(args, f"column_{field}"))}
    classes = args.classes.split(",") if args.classes else None
    return task_or_file(
        args.source, args.split, columns=columns, classes=classes, module=args.module, data_dir=args.data_dir
    )


def _client(args: argparse.Namespace):
    from distill_jax.teachers.clients import make_client

    options = {"model": args.model}
    if args.client in ("openai", "anthropic", "gemini"):
        options |= {"base_url": args.base_url, "key_variable": args.api_key_env, "timeout": args.timeout}
    elif args.base_url or args.api_key_env:
        raise UserError(f"--client {args.client} runs in this process: no --base-url, no --api-key-env")
    if args.client == "openai":
        options |= {"protocol": args.protocol or "chat"}
    elif args.client == "transformers":
        options |= {"protocol": args.protocol}
    return make_client(args.client, options)


def _extra_body(args: argparse.Namespace) -> dict:
    import json

    try:
        extra = json.loads(args.extra_body or "{}")
    except ValueError:
        extra = None
    if extra and args.client != "openai":
        raise UserError("--extra-body is of --client openai")
    if not isinstance(extra, dict):
        raise UserError(f"--extra-body: expected a JSON object, got {args.extra_body!r:.60}")
    return extra


def _plan(args: argparse.Namespace, rows, protocol: str, parser: str | None):
    from distill_jax.teachers import demonstrations, prompts
    from distill_jax.teachers.jobs import AnnotationPlan
    from distill_jax.teachers.messages import Sampling

    template = prompts.load_template(args.prompt or rows.prompt)
    pool = template.demonstrations
    if args.demonstrations:
        pool = demonstrations.read_demonstrations(args.demonstrations)
    temperature = (0.0 if args.samples == 1 else 0.7) if args.temperature is None else args.temperature
    sampling = Sampling(
        temperature=None if temperature == "none" else temperature,
        top_p=args.top_p,
        max_tokens=args.max_tokens,
        stop=tuple(template.stop),
        seed=args.seed,
        logprobs=args.logprobs,
        extra_body=_extra_body(args),
    )
    if args.samples > 1 and sampling.temperature == 0:
        raise UserError("--samples above 1 needs a --temperature above 0: the samples would be all the same")
    if args.structured and protocol == "completions":
        raise UserError("--structured needs --protocol chat")
    model = args.model
    if args.client == "checkpoint":
        from distill_jax.teachers.checkpoint_client import name_with_step

        model = name_with_step(model)
    return AnnotationPlan(
        template,
        demonstrations.selector(pool, args.select, args.shots, args.seed or 0),
        model,
        protocol,
        sampling,
        args.samples,
        args.samples_per_request,
        rows.classes,
        args.structured,
        parser,
    )


def _price(args: argparse.Namespace):
    from distill_jax.teachers import limits

    price = limits.parse_price(args.price) if args.price else limits.price_of(args.model, args.prices)
    if price is None and args.budget_usd is not None:
        raise UserError(f"no price of {args.model} is known: --budget-usd needs --price PROMPT,COMPLETION")
    if price is not None and args.batch:
        price = limits.Price(price.prompt, price.completion, args.batch_share)
    return price


@with_extra
def _annotate(args: argparse.Namespace) -> int:
    from distill_jax.teachers import secrets
    from distill_jax.teachers.rows import chosen, read_ids

    rows = rows_of(args)
    ids = read_ids(args.ids) if args.ids else None

    def examples():
        return chosen(rows.examples, ids, args.limit)

    if args.dry_run:
        return _dry_run(args, rows, examples)
    if not args.store:
        raise UserError("--store FILE is needed: the completions are kept there")
    client = _client(args)
    secrets.redact_logs()  # now that the SDK has set its own up
    plan = _plan(args, rows, client.protocol, client.parser)
    price = _price(args)
    from distill_jax.teachers.store import Store

    with Store(args.store) as store:
        outcome = _ask(args, client, plan, store, price, examples)
        for failure in outcome.failures:
            print(failure, file=sys.stderr)
        if outcome.fatal:
            raise UserError(f"{outcome.stopped}; {outcome.stored} completions more than before are stored")
        if outcome.stopped:
            print(f"stopped: {outcome.stopped}; the same command goes on from here", file=sys.stderr)
        if args.output or args.report:

            def completions(example):
                return store.read(example.id, plan.key(example, plan.prompt(example)).setting)

            settings = {
                "rows": f"{args.source}, split {args.split}",
                "model": plan.model,
                "prompt": plan.template.version,
                "endpoint": client.endpoint,
                "samples": plan.samples,
                "sampling": plan.sampling.stored(),
            }
            _deliver(args, rows, examples, completions, plan.template, settings)
    if outcome.stopped:
        return STOPPED
    if outcome.failed:
        raise UserError(f"{outcome.failed} requests got no answer: the same command asks for them again")
    return 0


def _ask(args, client, plan, store, price, examples):
    """Runs the loop, with a line of progress; the outcome."""
    import asyncio

    from distill_jax.teachers.annotator import Annotator, Limits
    from distill_jax.teachers.limits import Spent

    limits = Limits(
        args.concurrency,
        args.requests_per_minute,
        args.tokens_per_minute,
        Spent(args.budget_requests, args.budget_tokens, args.budget_usd),
        args.attempts,
        args.first_wait,
    )
    show = _progress(store, price)
    if args.batch:
        from distill_jax.teachers.batch_api import BatchAnnotator

        if args.client != "openai":
            raise UserError("--batch is of endpoints with OpenAI's /v1/batches: --client openai")
        annotator = BatchAnnotator(client, plan, store, limits, price, args.batch_size, args.poll, show)
        outcome = asyncio.run(annotator.run(examples))
    else:
        annotator = Annotator(client, plan, store, limits, price, show)
        outcome = asyncio.run(annotator.run(examples()))
    show(outcome, last=True)
    return outcome


def _progress(store, price):
    """A function that shows how far a run is: on a terminal every tenth of a second, else twice a minute."""
    import time

    begun = shown = time.monotonic()
    live = sys.stderr.isatty()

    def show(outcome, last: bool = False) -> None:
        nonlocal shown
        now = time.monotonic()
        if not last and now - shown < (0.1 if live else 30.0):
            return
        shown = now
        spent = store.spent
        money = f", {spent.usd:.4f} USD" if price else ""
        line = (
            f"{outcome.stored} completions added, {outcome.there} rows were there, {outcome.failed} failed, "
            f"{outcome.asked / max(now - begun, 1e-9):.0f} requests/s; the store: {store.rows} completions, "
            f"{spent.tokens:,} tokens{money}"
        )
        print(f"\r{line}\033[K" if live else line, end="" if live and not last else "\n", file=sys.stderr)

    return show


def _dry_run(args: argparse.Namespace, rows, examples) -> int:
    """Prints a row's prompt and what all rows would cost at most; asks nobody."""
    from distill_jax.teachers.limits import TokenEstimate

    local = {"transformers": args.protocol or "completions", "checkpoint": "checkpoint"}
    plan = _plan(args, rows, local.get(args.client, args.protocol or "chat"), None)
    estimate, count, tokens, shown = TokenEstimate(), 0, 0, None
    for example in examples():
        prompt = plan.prompt(example)
        count += 1
        tokens += estimate.prompt(prompt.size()) * -(-args.samples // args.samples_per_request)
        if shown is None and args.row in (None, example.id):
            shown = example, prompt
    if shown is None:
        raise UserError(f"no row {args.row!r}" if args.row else f"{args.source}: no rows")
    example, prompt = shown
    print(f"--- row {example.id}, prompt {plan.template.version}, {plan.protocol}")
    if plan.protocol == "chat":
        for message in prompt.messages():
            print(f"[{message['role']}]\n{message['content']}")
    else:
        print(prompt.text())
    answers = count * args.samples * args.max_tokens
    price = _price(args)
    cost = "price not known: give --price PROMPT,COMPLETION"
    if price:
        cost = f"{price.of(tokens, 0):.2f} USD for prompts, at most {price.of(tokens, answers):.2f} USD in all"
    print(
        f"--- {count:,} rows, {args.samples} samples each: about {tokens:,} tokens of prompts, at most "
        f"{answers:,} of answers; {cost}"
    )
    return 0


def _deliver(args, rows, examples, completions, template, settings) -> None:
    """Writes `--output` and `--report`."""
    from distill_jax.teachers import export, report

    figures = export.Figures(rows)
    judged = export.verdicts(rows, examples(), completions, template, args.check)
    if args.output:
        written, left = export.write_rows(args.output, judged, figures)
        without = f", {left} without label and answer left out" if left else ""
        print(f"{args.output}: {written} rows{without}")
    else:
        for verdict, lines in judged:
            figures.add(verdict, lines)
    summary = figures.summary()
    for name, value in report.figures_table(summary):
        print(f"{name:45} {value}")
    if args.report:
        settings = {**settings, "checks": ", ".join(args.check) or "none"}
        report.write_report(args.report, f"The teacher on {rows.name}", summary, settings)
        print(args.report)


@with_extra
def _store_import(args: argparse.Namespace) -> int:
    from distill_jax.teachers import parsing, prompts
    from distill_jax.teachers.reference_layout import import_completions
    from distill_jax.teachers.store import Store

    rows = rows_of(args)
    parser = args.parser or prompts.load_template(rows.prompt).answers_by(structured=False)
    try:
        parsing.parser(parser)
    except ValueError as error:
        raise UserError(f"--parser: {error}") from None
    with Store(args.store) as store:
        added, there = import_completions(rows, store, args.model, parser)
    print(f"{args.store}: {added} completions added, {there} were there")
    return 0


@with_extra
def _store_export(args: argparse.Namespace) -> int:
    from distill_jax.teachers import export, prompts, reference_layout
    from distill_jax.teachers.store import Store

    rows = rows_of(args)
    with Store(args.store, readonly=True) as store:
        completions = export.only_setting(store, args.model, args.template)
        if args.layout == "reference":
            files = reference_layout.export_completions(
                rows, rows.examples(), completions, args.output, args.chunk_size
            )
            print("\n".join(map(str, files)))
            return 0
        template = prompts.load_template(args.prompt or rows.prompt)
        settings = {"rows": f"{args.source}, split {args.split}", "store": args.store, "model": args.model}
        _deliver(args, rows, rows.examples, completions, template, settings)
    return 0


def add_rows_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that say which rows to read; see `rows_of`."""
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
