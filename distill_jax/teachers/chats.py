"""Files of chats as rows: chat fine-tuning data, stored completions and the results of a batch API.

What enters: JSON lines, each with the messages of a chat and its answer, in one of the forms that `_chat`
reads. What leaves: rows with `input`, made of the messages as the server of a student makes it; `label` and
`rationale`, read from the answer by a form; the chat's `id`, if any; and `chat`, both forms, for the server.
"""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from distill_jax import files
from distill_jax.config import ImportConfig
from distill_jax.data.chat_forms import FIELD, ChatForms, message_text
from distill_jax.data.completions import UNPARSED, Completion
from distill_jax.data.sources import read_jsonl
from distill_jax.errors import UserError
from distill_jax.teachers import parsing, thinking
from distill_jax.teachers.messages import TeacherError
from distill_jax.teachers.openai_reply import read_reply

_ANSWERS = ("reference_answer", "label", "target", "answer")  # of a row for reinforcement fine-tuning


class Chat(NamedTuple):
    """A chat without its last answer, and that answer; None where there is none."""

    id: str | None
    messages: list[Mapping[str, Any]]
    answer: str | None


def import_chats(config: ImportConfig) -> dict[str, int]:
    """Writes the chats of `config.file` as JSON lines to `config.output`; numbers of `rows` and of what is odd.

    Raises:
      UserError: for a file that cannot be read or has no chat in it, an unknown form of the input or the
        answer, and an output that is there already or cannot be written.
    """
    if pathlib.Path(config.output).is_file():
        raise UserError(f"{config.output}: is there already: choose another file with --output, or remove it")
    read, counts = _reader(config.answer), collections.Counter(rows=0)
    forms = ChatForms(config.chat_format, None if config.answer in parsing.REFERENCE else config.answer)
    asked = _requests(config.requests) if config.requests else {}
    with files.atomic_write(config.output) as output:
        for _, line in read_jsonl(pathlib.Path(config.file)):
            chat = _chat(line, asked)
            try:
                text = forms.text(chat.messages if chat else ())
            except ValueError as error:
                counts[f"lines left out: {error}"] += 1
                continue
            label, rationale = (
                read(thinking.split(chat.answer, config.answer).answer) if chat.answer else UNPARSED
            )
            counts["chats without an answer: rows without a label"] += not chat.answer
            counts[f"answers not of the form {config.answer!r}: rows without a label"] += (
                bool(chat.answer) and not label
            )
            row = {"id": chat.id, "input": text, "label": label, "rationale": rationale}
            row = {name: parsing.well_formed(value) for name, value in row.items() if value is not None}
            row[FIELD] = dataclasses.asdict(forms)
            output.write(json.dumps(row, ensure_ascii=False) + "\n")
            counts["rows"] += 1
        if not counts["rows"]:
            hint = "; the results of a batch need --requests FILE, what was asked" if not asked else ""
            raise UserError(f"{config.file}: no chats in this file{hint}")
    return {name: count for name, count in counts.items() if count}


def _reader(form: str):
    """The parser of an answer by a form; `{label}` alone is the whole answer."""
    if form.strip() == "{label}":
        return lambda text: Completion(text.strip() or None, None)
    if form == parsing.JSON or form in parsing.REFERENCE:
        return parsing.parser(form)
    if "{label}" not in form or "{rationale}" not in form:
        raise UserError(
            f"--answer {form!r}: expected {{label}}, a form with {{rationale}} and {{label}}, or json"
        )
    try:
        return parsing.form_parser(form)
    except (ValueError, KeyError) as error:
        raise UserError(f"--answer {form!r}: {error}; write a brace as {{{{ or }}}}") from None


def _requests(path: str) -> dict[str, list[Mapping[str, Any]]]:
    """The messages by `custom_id` of the file of requests that a batch was made of."""
    bodies = ((line.get("custom_id"), line.get("body")) for _, line in read_jsonl(pathlib.Path(path)))
    return {str(name): _messages(body.get("messages")) for name, body in bodies if isinstance(body, Mapping)}


def _chat(line: Mapping[str, Any], asked: Mapping[str, list[Mapping[str, Any]]]) -> Chat | None:
    """The chat of a line, in one of these forms; None for another.

    Supervised: `messages`, the last of the assistant. Preference: `input.messages` and `preferred_output`.
    Reinforcement: `messages` up to the user, and the answer in a field of `_ANSWERS`. Older: `prompt` and
    `completion`. Stored completions: `messages`, or `request.messages` or `input`, and `choices`. Batch API: a
    result, whose request is in `asked`, or a request.
    """
    name = line.get("custom_id") or line.get("id")
    name = str(name) if isinstance(name, str | int) and name != "" else None
    response = line.get("response")
    body = response.get("body", response) if isinstance(response, Mapping) else line
    places = (line, line.get("input"), line.get("request"), line.get("body"))
    messages = next(
        (_messages(p["messages"]) for p in places if isinstance(p, Mapping) and p.get("messages")), None
    )
    if messages is None:
        messages = _messages(line.get("input")) or asked.get(name or "")
    if not messages and isinstance(line.get("prompt"), str):
        messages = [{"role": "user", "content": line["prompt"]}]
    if not messages:
        return None
    for answer in (line.get("preferred_output"), line.get("completion")):
        if isinstance(answer, str):
            return Chat(name, messages, answer)
        if isinstance(answer, list) and answer:
            return Chat(name, messages, _text(answer[-1]))
    if isinstance(body, Mapping) and body.get("choices"):
        try:
            return Chat(name, messages, read_reply(body).answers[0].text)
        except TeacherError:
            return Chat(name, messages, None)
    if messages[-1].get("role") == "assistant":
        return Chat(name, messages[:-1], _text(messages[-1]))
    answer = next((line[field] for field in _ANSWERS if isinstance(line.get(field), str | int | float)), None)
    return Chat(name, messages, None if answer is None else str(answer))


def _messages(value: Any) -> list[Mapping[str, Any]]:
    return [message for message in value if isinstance(message, Mapping)] if isinstance(value, list) else []


def _text(message: Any) -> str | None:
    """The text of an answer; None where it has none, or more than text."""
    try:
        text = message_text(message)
    except ValueError:
        return None
    return text if text.strip() else None
