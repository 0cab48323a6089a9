"""`distill-jax annotate`, `store` and `select`: labels and rationales from a teacher, in a store."""

import sys
import time

from distill_jax.checkpoints.layout import require_run
from distill_jax.cli.common import command, keep_compiled, quiet, with_extra
from distill_jax.config import AnnotateConfig, SelectConfig, StoreExportConfig, StoreImportConfig
from distill_jax.config.annotation import OutputOptions
from distill_jax.errors import Status, UserError


@command(
    "annotate",
    "labels and rationales from a teacher LLM",
    """\
distill-jax annotate rows.jsonl --classes billing,shipping,other \\
  --model qwen3:8b --base-url http://localhost:11434/v1 \\
  --store completions.jsonl --output annotated.jsonl --report teacher.html""",
)
@with_extra
def _annotate(config: AnnotateConfig) -> int:
    from distill_jax.teachers.session import Session

    if config.client == "checkpoint":
        keep_compiled()
    session = Session(config)
    if config.dry_run:
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
        if config.output or config.report:
            try:
                _print_delivery(config, session.deliver())
            except UserError as error:
                if not outcome.stopped:
                    raise
                print(error, file=sys.stderr)  # nothing to deliver yet is no error of a run that was stopped
    if outcome.stopped:
        return Status.STOPPED
    if outcome.failed:
        raise UserError(f"{outcome.failed} requests got no answer: the same command asks for them again")
    return 0


def _progress(session):
    """A function that shows the progress of a run: on a terminal ten times a second, else twice a minute."""
    begun = shown = time.monotonic()
    live = sys.stderr.isatty()

    def show(outcome, last: bool = False) -> None:
        nonlocal shown
        now = time.monotonic()
        if not last and now - shown < (0.1 if live else 30.0):
            return
        shown = now
        line = _pace(outcome, now - begun)
        if last or not live:
            line = "; ".join([line, *_counts(outcome, session)])
        print(f"\r{line}\033[K" if live else line, end="" if live and not last else "\n", file=sys.stderr)

    return show


def _pace(outcome, seconds: float) -> str:
    """How many requests were answered, how fast, and how many at a time the server keeps up with."""
    line = f"answered {outcome.answered} of {outcome.asked} requests"
    if outcome.answered:
        rate = outcome.answered / max(seconds, 1e-9)
        line += f", {rate:.0f} a second" if rate >= 10 else f", {60 * rate:.1f} a minute"
    return line + (f", up to {outcome.at_a_time} at a time" if outcome.at_a_time else "")


def _counts(outcome, session) -> list[str]:
    """What went wrong, what came out of it, and what the store holds now."""
    from distill_jax.teachers.quality import PROBLEMS

    store = session.store
    counts = [f"{outcome.failed} failed"]
    if outcome.timed_out:
        counts.append(f"{outcome.timed_out} attempts timed out (raise --timeout, or lower --concurrency)")
    if outcome.busy:
        counts.append(f"{outcome.busy} attempts were refused for now (too many requests: lower --concurrency)")
    counts.append(f"{outcome.stored} completions added, {outcome.complete} rows complete before")
    if session.plan.sampling.logprobs:
        counts.append(f"label_probs in {outcome.with_probs} of {outcome.stored}")
    cost = f", {store.spent.usd:.4f} USD" if session.price else ""
    counts.append(f"the store: {store.rows} completions, {store.spent.tokens:,} tokens{cost}")
    if outcome.troubles:
        told = (f"{count} {PROBLEMS[name]}" for name, count in outcome.troubles.most_common())
        counts.append(f"without a vote: {', '.join(told)}")
    return counts


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
        cost += f" (prices by {preview.price_from})"
    print(
        f"--- {preview.rows:,} rows, {plan.samples} samples each: about {preview.prompt_tokens:,} tokens of "
        f"prompts, at most {preview.answer_tokens:,} of answers; {cost}"
    )


def _print_delivery(config: OutputOptions, delivery) -> None:
    from distill_jax.teachers.report import figures_table

    if config.output:
        figures = delivery.figures
        counts = f"{figures['answered']} with an answer, {figures['with_label_probs']} with label_probs"
        left_out = f"; {delivery.left_out} without label and answer left out" if delivery.left_out else ""
        print(f"{config.output}: {delivery.written} rows, {counts}{left_out}")
    for name, value in figures_table(delivery.figures):
        print(f"{name:45} {value}")
    if config.report:
        print(config.report)


@command("store import", "the llm/ files of a task into a store")
@with_extra
def _store_import(config: StoreImportConfig) -> int:
    from distill_jax.teachers.transfer import import_files

    added, present = import_files(config)
    print(f"{config.store}: {added} completions added, {present} were in it")
    return 0


@command("store export", "rows, figures or llm/ files from a store")
@with_extra
def _store_export(config: StoreExportConfig) -> int:
    from distill_jax.teachers.transfer import export_rows

    exported = export_rows(config)
    if isinstance(exported, list):
        print("\n".join(map(str, exported)))
    else:
        _print_delivery(config, exported)
    return 0


@command("select", "the rows to annotate next: those a student is least sure of")
@with_extra
def _select(config: SelectConfig) -> int:
    if config.run:
        require_run(config.run)
    from distill_jax.teachers.selection import select

    quiet()
    if config.run:
        keep_compiled()
    chosen = select(config)
    if len(chosen) < config.count:
        print(f"{len(chosen)} rows only: there are no more to choose from", file=sys.stderr)
    if not config.output:
        print("\n".join(row["id"] for row in chosen))
    return 0
