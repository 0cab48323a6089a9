"""A chat as the student's input, and its answer: what makes the rows of a file of chats also serves chats."""

import dataclasses
import pathlib
import string
from collections.abc import Mapping, Sequence
from typing import Any

from distill_jax.data.sources import read_jsonl
from distill_jax.errors import UserError

LAST = "{user}"
FIELD = "chat"  # of a row: the forms that it was made by
_FIELDS = ("system", "history", "user")
_SYSTEM = ("system", "developer")


@dataclasses.dataclass(frozen=True)
class ChatForms:
    r"""How a chat becomes an input, and what an answer looks like.

    Attributes:
      input: a text with `{user}`, the last message of the user; `{system}`, the system messages; `{history}`,
        the turns before the last message of the user, a line `ROLE: TEXT` each. `\n` stands for a line break.
      answer: a form of answers, see `teachers.parsing.form_parser`, or `json`; None where it is not known.

    Raises:
      UserError: for an input with other fields, or without `{user}`.
    """

    input: str = LAST
    answer: str | None = None

    def __post_init__(self):
        object.__setattr__(self, "input", self.input.replace("\\n", "\n"))
        names = placeholders(self.input, "--chat-format")
        if not {"user"} <= names <= set(_FIELDS):
            expected = ", ".join(f"{{{name}}}" for name in _FIELDS)
            raise UserError(f"--chat-format {self.input!r}: expected {{user}}, and no fields but {expected}")

    def text(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The input of a chat that ends with a message of the user.

        Raises:
          ValueError: without a text of the user, and for messages that are more than text.
        """
        users = [place for place, message in enumerate(messages) if message.get("role") == "user"]
        if not users:
            raise ValueError("expected one of the role `user`: the student's input")
        if not (user := message_text(messages[users[-1]])).strip():
            raise ValueError("the last one of the role `user` has no text")
        named = placeholders(self.input)
        turns = {"system": [], "history": []}
        for message in messages[: users[-1]] if len(named) > 1 else ():
            kind = "system" if message.get("role") in _SYSTEM else "history"
            if kind in named and (text := message_text(message)):
                turns[kind].append(text if kind == "system" else f"{message.get('role')}: {text}")
        filled = {"system": "\n\n".join(turns["system"]), "history": "\n".join(turns["history"])}
        return user if self.input == LAST else self.input.format(user=user, **filled).strip()


def placeholders(form: str, flag: str = "") -> set[str]:
    """The names in braces of a form; raises UserError, naming the flag, for braces that do not fit."""
    try:
        parsed = list(string.Formatter().parse(form))
    except ValueError as error:
        raise UserError(f"{flag} {form!r}: {error}; write a brace as {{{{ or }}}}") from None
    if any(spec or conversion for _, _, spec, conversion in parsed):
        raise UserError(f"{flag} {form!r}: a field has nothing but a name")
    return {name for _, name, _, _ in parsed if name is not None}


def message_text(message: Any) -> str:
    """The text of a message, whose content may be a list of parts; "" without any.

    Raises:
      ValueError: for a part that is no text, such as an image.
    """
    content = message.get("content") if isinstance(message, Mapping) else message
    if isinstance(content, list):
        texts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("a student reads text only")
        return "".join(texts)
    return content if isinstance(content, str) else ""


def forms_of(path: str) -> ChatForms | None:
    """The forms that a file of rows was made by, as its first row has them; None for other files."""
    file = pathlib.Path(path)
    if file.suffix.lower() not in (".jsonl", ".json") or not file.is_file():
        return None
    _, row = next(read_jsonl(file), (0, {}))
    return read_forms(row.get(FIELD))


def read_forms(value: Any) -> ChatForms | None:
    """The forms of a row's field, or of a run's description; None for anything else."""
    if not isinstance(value, Mapping) or set(value) != {"input", "answer"}:
        return None
    made, answer = value["input"], value["answer"]
    usable = isinstance(made, str) and (answer is None or isinstance(answer, str))
    return ChatForms(made, answer) if usable else None
