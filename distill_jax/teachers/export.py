"""From the store to rows for `distill-jax train --data`, a report, or figures alone."""

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from distill_jax import files
from distill_jax.config.annotation import OutputOptions
from distill_jax.data.chat_forms import FIELD, ChatForms
from distill_jax.data.schema import Example
from distill_jax.errors import UserError
from distill_jax.teachers import parsing
from distill_jax.teachers.figures import Figures, Lines
from distill_jax.teachers.prompts import Template
from distill_jax.teachers.quality import Verdict, judge, read_sample
from distill_jax.teachers.report import write_report
from distill_jax.teachers.rows import Rows
from distill_jax.teachers.store import Store


class NothingToWrite(UserError):
    """No row has a label or an answer."""


@dataclasses.dataclass(frozen=True)
class Delivery:
    """What was made of the stored completions."""

    figures: dict[str, Any]  # see `Figures.summary`
    written: int = 0  # rows in the output
    left_out: int = 0  # rows with neither a label nor an answer, which are not in the output


def deliver(
    config: OutputOptions,
    rows: Rows,
    examples: Iterator[Example],
    completions: Callable[[Example], Lines],
    template: Template,
    settings: Mapping[str, Any],
) -> Delivery:
    """Judges the rows and writes `config.output` and `config.report`, where they are given.

    `completions` gives a row's lines of the store; the report shows the `settings`.

    Raises:
      UserError: when no row has a label, or a file cannot be written.
    """
    figures, written, left_out, nothing = Figures(rows), 0, 0, None
    judged = verdicts(rows, examples, completions, template, config.check, config.rationale_from)
    if config.output:
        try:
            written, left_out = write_rows(config.output, judged, figures, rows.chat)
        except NothingToWrite as error:
            nothing = error  # the report tells why
    else:
        for verdict, lines in judged:
            figures.add(verdict, lines)
    summary = figures.summary()
    if config.report:
        shown = {**settings, "checks": ", ".join(config.check) or "none"}
        write_report(config.report, f"The teacher on {rows.name}", summary, shown)
    if nothing is not None:
        raise nothing
    return Delivery(summary, written, left_out)


def verdicts(
    rows: Rows,
    examples: Iterator[Example],
    completions: Callable[[Example], Lines],
    template: Template | None,
    checks: Sequence[str] = (),
    rationale_from: str = "answer",
) -> Iterator[tuple[Verdict, Lines]]:
    """The judged `examples`, each with its lines of the store; `template` None is an unknown prompt."""
    for example in examples:
        lines, options = completions(example), rows.options(example)
        samples = [
            read_sample(line, options, _label_text(template, example, line), checks, rationale_from)
            for line in lines
        ]
        yield judge(example, samples, options, rows.same), lines


def _label_text(template: Template | None, example: Example, line: Mapping[str, Any]) -> Callable[[str], str]:
    if template is None:
        return str
    if line.get("tokens") and line["template"] != template.version:
        raise UserError(
            f"row {example.id}: its log-probabilities belong to the prompt {line['template']}, not of "
            f"{template.version}: give that one with --prompt"
        )
    return lambda label: template.label_text(example, label, line["parser"] == parsing.JSON)


def row_of(verdict: Verdict, chat: ChatForms | None = None) -> dict[str, Any] | None:
    """The row as `train --data` reads it; None for one that has neither a label nor a rationale.

    `chat` are the forms that the row was made by.
    """
    example = verdict.example
    if example.label is None and example.teacher_label is None:
        return None
    fields = {name: getattr(example, name) for name in ("id", "input", "label", "teacher_label", "rationale")}
    fields |= {
        "label_probs": None if example.label_probs is None else [round(p, 6) for p in example.label_probs],
        "choices": None if example.choices is None else list(example.choices),
        "agreement": verdict.agreement,
        "rationales": list(verdict.rationales) if len(verdict.rationales) > 1 else None,
        FIELD: None if chat is None else dataclasses.asdict(chat),
    }
    return {name: value for name, value in fields.items() if value is not None}


def write_rows(
    path: str | os.PathLike,
    judged: Iterator[tuple[Verdict, Lines]],
    figures: Figures,
    chat: ChatForms | None = None,
) -> tuple[int, int]:
    """Writes JSON lines, all or nothing; (rows written, rows left out because they have no label).

    Raises:
      UserError: when no row has a label, or the file cannot be written.
    """
    written = left_out = 0
    with files.atomic_write(path) as file:
        for verdict, lines in judged:
            figures.add(verdict, lines)
            row = row_of(verdict, chat)
            if row is None:
                left_out += 1
                continue
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            written += 1
        if not written:
            why = f" (samples: {problems})" if (problems := figures.problems_in_words()) else ""
            raise NothingToWrite(
                f"{path}: nothing to write: none of the {left_out} rows has a label or an answer{why}"
            )
    return written, left_out


def only_setting(
    store: Store, model: str | None = None, template: str | None = None
) -> Callable[[Example], Lines]:
    """A function that reads a row's lines of the store, of any model and prompt, as long as it is one.

    They can be of one `model` only, and of one prompt `template` only, `NAME` or `NAME@HASH`.

    Raises (the function):
      UserError: when a row has completions of several settings.
    """

    def chosen(line: Mapping[str, Any]) -> bool:
        version = str(line.get("template"))
        return model in (None, line["model"]) and template in (None, version, version.partition("@")[0])

    def read(example: Example) -> Lines:
        lines = [line for line in store.read(example.id) if chosen(line)]
        if len({(line["prompt"], line["model"], json.dumps(line["sampling"])) for line in lines}) > 1:
            settings = {f"{line['model']} with {line.get('template')}, {line['sampling']}" for line in lines}
            if len(settings) == 1:
                raise UserError(
                    f"{store.path}: row {example.id} has completions of several prompts of one setting: "
                    "another row has its id too, or its text has changed; run annotate with the settings and "
                    "--output"
                )
            raise UserError(
                f"{store.path}: row {example.id} has completions of several settings "
                f"({'; '.join(sorted(settings))}): choose with --model or --template, or run annotate with the "
                "settings and --output"
            )
        return lines

    return read
