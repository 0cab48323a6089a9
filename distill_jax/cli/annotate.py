"""`distill-jax annotate` and `distill-jax store`: labels and rationales from a teacher, kept for good."""

import sys

from distill_jax.cli.common import add_command, add_group, with_extra
from distill_jax.config import AnnotateConfig, RowsOptions, StoreExportConfig, StoreImportConfig
from distill_jax.errors import UserError

STOPPED = 3  # exit status when a budget or a signal ended the run


def rows_of(config: RowsOptions):
    """The rows that a command reads."""
    from distill_jax.teachers.rows import task_or_file

    return task_or_file(
        config.source,
        config.split,
        columns=config.columns,
        classes=config.classes,
        module=config.module,
        data_dir=config.data_dir,
    )


def _client(config):
    from distill_jax.teachers.clients import make_client

    options = {"model": config.model}
    if config.client in ("openai", "anthropic", "gemini"):
        options |= {"base_url": config.base_url, "key_variable": config.api_key_env, "timeout": config.timeout}
    elif config.base_url or config.api_key_env:
        raise UserError(f"--client {config.client} runs in this process: no --base-url, no --api-key-env")
    if config.client == "openai":
        options |= {"protocol": config.protocol or "chat"}
    elif config.client == "transformers":
        options |= {"protocol": config.protocol}
    return make_client(config.client, options)


def _extra_body(config) -> dict:
    import json

    try:
        extra = json.loads(config.extra_body or "{}")
    except ValueError:
        extra = None
    if extra and config.client != "openai":
        raise UserError("--extra-body is of --client openai")
    if not isinstance(extra, dict):
        raise UserError(f"--extra-body: expected a JSON object, got {config.extra_body!r:.60}")
    return extra


def _plan(config, rows, protocol: str, parser: str | None):
    from distill_jax.teachers import demonstrations, prompts
    from distill_jax.teachers.jobs import AnnotationPlan
    from distill_jax.teachers.messages import Sampling

    template = prompts.load_template(config.prompt or rows.prompt)
    pool = template.demonstrations
    if config.demonstrations:
        pool = demonstrations.read_demonstrations(config.demonstrations)
    temperature = (0.0 if config.samples == 1 else 0.7) if config.temperature is None else config.temperature
    sampling = Sampling(
        temperature=None if temperature == "none" else temperature,
        top_p=config.top_p,
        max_tokens=config.max_tokens,
        stop=tuple(template.stop),
        seed=config.seed,
        logprobs=config.logprobs,
        extra_body=_extra_body(config),
    )
    if config.samples > 1 and sampling.temperature == 0:
        raise UserError("--samples above 1 needs a --temperature above 0: the samples would be all the same")
    if config.structured and protocol == "completions":
        raise UserError("--structured needs --protocol chat")
    model = config.model
    if config.client == "checkpoint":
        from distill_jax.teachers.checkpoint_client import name_with_step

        model = name_with_step(model)
    return AnnotationPlan(
        template,
        demonstrations.selector(pool, config.select, config.shots, config.seed or 0),
        model,
        protocol,
        sampling,
        config.samples,
        config.samples_per_request,
        rows.classes,
        config.structured,
        parser,
    )


def _price(config):
    from distill_jax.teachers import limits

    price = limits.parse_price(config.price) if config.price else limits.price_of(config.model, config.prices)
    if price is None and config.budget_usd is not None:
        raise UserError(f"no price of {config.model} is known: --budget-usd needs --price PROMPT,COMPLETION")
    if price is not None and config.batch:
        price = limits.Price(price.prompt, price.completion, config.batch_share)
    return price


@with_extra
def _annotate(config: AnnotateConfig) -> int:
    from distill_jax.teachers import secrets
    from distill_jax.teachers.rows import chosen, read_ids

    rows = rows_of(config)
    ids = read_ids(config.ids) if config.ids else None

    def examples():
        return chosen(rows.examples, ids, config.limit)

    if config.dry_run:
        return _dry_run(config, rows, examples)
    client = _client(config)
    secrets.redact_logs()  # now that the SDK has set its own up
    plan = _plan(config, rows, client.protocol, client.parser)
    price = _price(config)
    from distill_jax.teachers.store import Store

    with Store(config.store) as store:
        outcome = _ask(config, client, plan, store, price, examples)
        for failure in outcome.failures:
            print(failure, file=sys.stderr)
        if outcome.fatal:
            raise UserError(f"{outcome.stopped}; {outcome.stored} completions more than before are stored")
        if outcome.stopped:
            print(f"stopped: {outcome.stopped}; the same command goes on from here", file=sys.stderr)
        if config.output or config.report:

            def completions(example):
                return store.read(example.id, plan.key(example, plan.prompt(example)).setting)

            settings = {
                "rows": f"{config.source}, split {config.split}",
                "model": plan.model,
                "prompt": plan.template.version,
                "endpoint": client.endpoint,
                "samples": plan.samples,
                "sampling": plan.sampling.stored(),
            }
            _deliver(config, rows, examples, completions, plan.template, settings)
    if outcome.stopped:
        return STOPPED
    if outcome.failed:
        raise UserError(f"{outcome.failed} requests got no answer: the same command asks for them again")
    return 0


def _ask(config, client, plan, store, price, examples):
    """Runs the loop, with a line of progress; the outcome."""
    import asyncio

    from distill_jax.teachers.annotator import Annotator, Limits
    from distill_jax.teachers.limits import Spent

    limits = Limits(
        config.concurrency,
        config.requests_per_minute,
        config.tokens_per_minute,
        Spent(config.budget_requests, config.budget_tokens, config.budget_usd),
        config.attempts,
        config.first_wait,
    )
    show = _progress(store, price)
    if config.batch:
        from distill_jax.teachers.batch_api import BatchAnnotator

        if config.client != "openai":
            raise UserError("--batch is of endpoints with OpenAI's /v1/batches: --client openai")
        annotator = BatchAnnotator(client, plan, store, limits, price, config.batch_size, config.poll, show)
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


def _dry_run(config, rows, examples) -> int:
    """Prints a row's prompt and what all rows would cost at most; asks nobody."""
    from distill_jax.teachers.limits import TokenEstimate

    local = {"transformers": config.protocol or "completions", "checkpoint": "checkpoint"}
    plan = _plan(config, rows, local.get(config.client, config.protocol or "chat"), None)
    estimate, count, tokens, shown = TokenEstimate(), 0, 0, None
    for example in examples():
        prompt = plan.prompt(example)
        count += 1
        tokens += estimate.prompt(prompt.size()) * -(-config.samples // config.samples_per_request)
        if shown is None and config.row in (None, example.id):
            shown = example, prompt
    if shown is None:
        raise UserError(f"no row {config.row!r}" if config.row else f"{config.source}: no rows")
    example, prompt = shown
    print(f"--- row {example.id}, prompt {plan.template.version}, {plan.protocol}")
    if plan.protocol == "chat":
        for message in prompt.messages():
            print(f"[{message['role']}]\n{message['content']}")
    else:
        print(prompt.text())
    answers = count * config.samples * config.max_tokens
    price = _price(config)
    cost = "price not known: give --price PROMPT,COMPLETION"
    if price:
        cost = f"{price.of(tokens, 0):.2f} USD for prompts, at most {price.of(tokens, answers):.2f} USD in all"
    print(
        f"--- {count:,} rows, {config.samples} samples each: about {tokens:,} tokens of prompts, at most "
        f"{answers:,} of answers; {cost}"
    )
    return 0


def _deliver(config, rows, examples, completions, template, settings) -> None:
    """Writes `--output` and `--report`."""
    from distill_jax.teachers import export, report

    figures = export.Figures(rows)
    judged = export.verdicts(rows, examples(), completions, template, config.check)
    if config.output:
        written, left = export.write_rows(config.output, judged, figures)
        without = f", {left} without label and answer left out" if left else ""
        print(f"{config.output}: {written} rows{without}")
    else:
        for verdict, lines in judged:
            figures.add(verdict, lines)
    summary = figures.summary()
    for name, value in report.figures_table(summary):
        print(f"{name:45} {value}")
    if config.report:
        settings = {**settings, "checks": ", ".join(config.check) or "none"}
        report.write_report(config.report, f"The teacher on {rows.name}", summary, settings)
        print(config.report)


@with_extra
def _store_import(config: StoreImportConfig) -> int:
    from distill_jax.teachers import parsing, prompts
    from distill_jax.teachers.reference_layout import import_completions
    from distill_jax.teachers.store import Store

    rows = rows_of(config)
    parser = config.parser or prompts.load_template(rows.prompt).answers_by(structured=False)
    try:
        parsing.parser(parser)
    except ValueError as error:
        raise UserError(f"--parser: {error}") from None
    with Store(config.store) as store:
        added, there = import_completions(rows, store, config.model, parser)
    print(f"{config.store}: {added} completions added, {there} were there")
    return 0


@with_extra
def _store_export(config: StoreExportConfig) -> int:
    from distill_jax.teachers import export, prompts, reference_layout
    from distill_jax.teachers.store import Store

    rows = rows_of(config)
    with Store(config.store, readonly=True) as store:
        completions = export.only_setting(store, config.model, config.template)
        if config.layout == "reference":
            files = reference_layout.export_completions(
                rows, rows.examples(), completions, config.output, config.chunk_size
            )
            print("\n".join(map(str, files)))
            return 0
        template = prompts.load_template(config.prompt or rows.prompt)
        settings = {
            "rows": f"{config.source}, split {config.split}",
            "store": config.store,
            "model": config.model,
        }
        _deliver(config, rows, rows.examples, completions, template, settings)
    return 0


def add(commands) -> None:
    """Adds the commands."""
    add_command(commands, "annotate", "labels and rationales from a teacher LLM", _annotate, AnnotateConfig)
    store = add_group(commands, "store", "bring completions into a store, and out of it")
    add_command(store, "import", "the llm/ files of a task into a store", _store_import, StoreImportConfig)
    add_command(store, "export", "rows, figures or llm/ files from a store", _store_export, StoreExportConfig)
