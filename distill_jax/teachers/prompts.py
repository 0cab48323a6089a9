"""Few-shot chain-of-thought prompts: YAML templates, validated and rendered for a row.

The shipped ones are in `distill_jax/teachers/prompts/`. Demonstrations and answer forms follow Wei et al. 2022
(arXiv:2201.11903); the texts are our own.
"""

import hashlib
import json
import pathlib
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

import pydantic

from distill_jax import tasks
from distill_jax.config import yaml_files
from distill_jax.config.options import nearest
from distill_jax.data.schema import Example
from distill_jax.errors import UserError
from distill_jax.teachers import parsing
from distill_jax.teachers.messages import Prompt

FOLDER = pathlib.Path(__file__).parent / "prompts"
_OPTION = re.compile(r"^\((\w)\) (.*)$", re.MULTILINE)
_AS_JSON = 'Answer with a JSON object: {"rationale": the reason, "label": the answer}.'


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Fields(_Strict):
    """How an input is split into named parts, such as premise and hypothesis."""

    separator: str = pydantic.Field(min_length=1)
    names: list[str] = pydantic.Field(min_length=2)


class Demonstration(_Strict):
    """A worked example; `input` as the task's rows have it."""

    input: str = pydantic.Field(min_length=1)
    rationale: str = pydantic.Field(min_length=1)
    label: str = pydantic.Field(min_length=1)
    choices: list[str] | None = None


class Template(_Strict):
    """The template of a prompt."""

    name: str = ""  # by default that of the file
    description: str = ""
    instruction: str = ""  # for the system message; `{classes}` is the list of the task's classes
    fields: Fields | None = None  # splits the input; their names can then be used in `question`
    question: str = "{input}"  # or the names of the fields; `{choices}` are the row's, with letters
    answer: str = "{rationale} So the answer is {label}."  # of a demonstration; `{letter}` of the choice
    parser: str = "form"  # follows `answer`; `svamp`, `cqa`, `anli` and `esnli` are those of the paper's code
    stop: list[str] = []  # texts that end an answer
    demonstrations: list[Demonstration] = []

    @pydantic.model_validator(mode="after")
    def _placeholders(self):
        names = set(self.fields.names) if self.fields else set()
        _check("instruction", self.instruction, {"classes"}, set())
        _check("question", self.question, {"input", "choices", "classes"} | names, {"input"} | names)
        _check("answer", self.answer, {"rationale", "label", "letter"}, {"label"})
        if self.parser != "form" and self.parser not in parsing.REFERENCE:
            raise ValueError(f"parser {self.parser!r}: expected form, {', '.join(parsing.REFERENCE)}")
        if self.parser == "form" and "rationale" not in _names(self.answer):
            raise ValueError("answer has no {rationale}")
        return self

    @property
    def version(self) -> str:
        """NAME@HASH, of the whole template."""
        text = json.dumps(self.model_dump(), sort_keys=True)
        return f"{self.name}@{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def answers_by(self, structured: bool) -> str:
        """Name of the parser, for `parsing.parser`."""
        if structured:
            return parsing.JSON
        return parsing.FORM + self.answer if self.parser == "form" else self.parser

    def answer_of(self, shown: Demonstration, structured: bool) -> str:
        """The answer of a demonstration."""
        if structured:
            return parsing.written_json(shown.rationale, shown.label)
        letter = letters(shown.input, shown.choices).get(shown.label, "?")
        return self.answer.format(rationale=shown.rationale, label=shown.label, letter=letter)

    def label_text(self, example: Example, label: str, structured: bool) -> str:
        """How a label of this row is written in an answer, from the first character that depends on it."""
        if structured:
            return json.dumps(label, ensure_ascii=False)[1:-1]
        start = min(at for name in ("{letter}", "{label}") if (at := self.answer.find(name)) >= 0)
        form = self.answer[start : self.answer.index("{label}") + len("{label}")]
        letter = letters(example.input, example.choices).get(label, "?")
        return form.format(label=label, letter=letter, rationale="")

    def render(
        self,
        example: Example,
        shown: Sequence[Demonstration],
        classes: Sequence[str] | None = None,
        structured: bool = False,
    ) -> Prompt:
        """The prompt of a row, whose label is not used, with the demonstrations `shown`.

        `structured` asks for JSON; the label is then one of the row's choices or the task's `classes`.

        Raises:
          UserError: when the input does not have the parts of `fields`.
        """
        instruction = self.instruction.format(classes=_listed(example.choices or classes)).strip()
        schema = None
        if structured:
            instruction = f"{instruction}\n{_AS_JSON}".strip()
            schema = answer_schema(example.choices or classes)
        turns = tuple(
            (self._question(d.input, d.choices, classes, "a demonstration"), self.answer_of(d, structured))
            for d in shown
        )
        question = self._question(example.input, example.choices, classes, f"row {example.id}")
        return Prompt(instruction, turns, question, schema)

    def _question(self, text: str, choices, classes, where: str) -> str:
        parts = {}
        if self.fields:
            values = text.split(self.fields.separator)
            if len(values) != len(self.fields.names):
                raise UserError(
                    f"{where}: prompt {self.name} expects {' and '.join(self.fields.names)} with "
                    f"{self.fields.separator!r} between them, got {text!r:.60}"
                )
            parts = dict(zip(self.fields.names, values, strict=True))
        listed = "\n".join(f"({letter}) {label}" for label, letter in letters("", choices).items())
        return self.question.format(input=text, choices=listed, classes=_listed(classes), **parts)


def letters(text: str, choices: Sequence[str] | None) -> Mapping[str, str]:
    """Choice -> letter: from the lines `(a) …` of an input, else in the order of the choices."""
    listed = {label.strip(): letter for letter, label in _OPTION.findall(text)}
    return listed or {choice: string.ascii_lowercase[i % 26] for i, choice in enumerate(choices or ())}


def answer_schema(options: Sequence[str] | None) -> dict[str, Any]:
    """JSON schema of an answer; the rationale comes first, so that the label follows from it."""
    label = {"type": "string", "enum": list(options)} if options else {"type": "string"}
    properties = {"rationale": {"type": "string"}, "label": label}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _names(form: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(form) if name is not None]


def _check(field: str, form: str, known: set[str], one_of: set[str]) -> None:
    try:
        parsed = list(string.Formatter().parse(form))
    except ValueError as error:
        raise ValueError(f"{field}: {error}; write a brace as {{{{ or }}}}") from None
    for _, name, spec, conversion in parsed:
        if name is not None and (name not in known or spec or conversion):
            raise ValueError(f"{field}: unknown {{{name}}}: expected {', '.join(sorted(known))}")
    if one_of and not one_of & set(_names(form)):
        raise ValueError(f"{field} has none of {', '.join(f'{{{name}}}' for name in sorted(one_of))}")


def _listed(classes: Sequence[str] | None) -> str:
    return ", ".join(classes or ()) or "whatever the text asks for"


def shipped() -> list[str]:
    """Names of the shipped templates."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_template(name: str) -> Template:
    """A shipped template by its name or its task's, or the YAML file of that path.

    Raises:
      UserError: when there is none, and for a file that is no template; names the wrong field.
    """
    path = FOLDER / f"{tasks.MODULES.get(name, name)}.yaml"
    if not re.fullmatch(r"\w+", name) or not path.exists():
        path = pathlib.Path(name)
    if not path.exists():
        hint = nearest(name, shipped())
        raise UserError(f"prompt {name}: no such file: expected a YAML file or a shipped name; {hint}")
    content = yaml_files.read(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping with question, answer and so on")
    try:
        return Template(**{"name": path.stem, **content})
    except (pydantic.ValidationError, TypeError) as error:
        raise UserError(f"{path}: {_problem(error)}") from None


def _problem(error: Exception) -> str:
    if not isinstance(error, pydantic.ValidationError):
        return str(error)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    what = first["msg"].removeprefix("Value error, ")
    return f"{place}: {what}" if place else what
