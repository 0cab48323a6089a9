"""From the text of a completion to its label and rationale: the paper's parsers, JSON, or a prompt's form."""

import json
import re
import string
from collections.abc import Callable, Sequence

from distill_jax.data.completions import UNPARSED, Completion
from distill_jax.tasks.anli import parse_anli
from distill_jax.tasks.cqa import parse_cqa
from distill_jax.tasks.esnli import parse_esnli
from distill_jax.tasks.svamp import parse_svamp

REFERENCE = {"svamp": parse_svamp, "cqa": parse_cqa, "anli": parse_anli, "esnli": parse_esnli}
JSON = "json"
FORM = "form:"  # before the answer form of a prompt
_REASONED = "</think>"
_CONTROL = re.compile(r"<\|[\w ]{1,40}\|>|</?s>|<(?:eos|bos|pad|end_of_turn|start_of_turn)>")
_AROUND = "\"'`*_.,;:!?()[]{}“”‘’«» \t\r\n"


def parser(name: str) -> Callable[[str], Completion]:
    """The parser of that name: one of `REFERENCE`, `json`, or `form:` and an answer form.

    Raises:
      ValueError: for another name.
    """
    if name in REFERENCE:
        return REFERENCE[name]
    if name == JSON:
        return parse_json
    if name.startswith(FORM):
        return form_parser(name.removeprefix(FORM))
    raise ValueError(f"unknown parser {name!r}: expected {', '.join(REFERENCE)}, {JSON} or {FORM}…")


def parse_json(text: str) -> Completion:
    """`{"rationale": …, "label": …}`, alone or inside a fenced block."""
    fenced = re.search(r"```(?:json)?\s*(\{.*\})\s*```", text, re.DOTALL)
    try:
        answer = json.loads(fenced.group(1) if fenced else text)
    except (ValueError, RecursionError):
        return UNPARSED
    if not isinstance(answer, dict):
        return UNPARSED
    label, rationale = answer.get("label"), answer.get("rationale")
    if not all(isinstance(part, str) and part.strip() for part in (label, rationale)):
        return UNPARSED
    return Completion(label.strip(), rationale.strip())


def written_json(rationale: str, label: str) -> str:
    """The answer that `parse_json` reads."""
    return json.dumps({"rationale": rationale, "label": label}, ensure_ascii=False)


def form_parser(form: str) -> Callable[[str], Completion]:
    """A parser of answers such as `{rationale} So the answer is {label}.`, whatever their white space and case.

    The label ends at the form's ending or at the end of the line. The first match counts.
    """
    parts, ending, pattern = list(string.Formatter().parse(form)), "", ""
    if parts[-1][1] is None:
        ending = parts.pop()[0]
    for literal, field, _, _ in parts:
        pattern += _loosely(literal)
        pattern += r"\w" if field == "letter" else f"(?P<{field}>.{'+' if field == 'label' else '*'}?)"
    if ending.strip():
        pattern += f"(?:{_loosely(ending)})?"
    compiled = re.compile(pattern + r"\s*(?:\n|$)", re.DOTALL | re.IGNORECASE)

    def parse(text: str) -> Completion:
        match = compiled.match(text)
        if match is None:
            return UNPARSED
        label, rationale = match["label"].strip(), match["rationale"].strip()
        nothing = ("", ending.strip())
        return UNPARSED if label in nothing or not rationale else Completion(label, rationale)

    return parse


def _loosely(literal: str) -> str:
    """Pattern of a literal part: any white space around its words."""
    return r"\s*" + "".join(re.escape(word) + r"\s*" for word in literal.split())


def well_formed(text: str) -> str:
    """`text` with U+FFFD in place of halves of surrogate pairs, which no file can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def without_markup(text: str) -> str:
    """`text` without what some servers leave in it: the reasoning up to `</think>`, and control tokens."""
    return _CONTROL.sub("", text[text.rfind(_REASONED) + len(_REASONED) :] if _REASONED in text else text)


def cut(text: str, stops: Sequence[str]) -> str:
    """`text` up to the first stop text, for endpoints that do not stop there themselves."""
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]


def bare(label: str) -> str:
    """A label without case, and without quotes, emphasis, brackets and punctuation around it."""
    return label.strip(_AROUND).casefold()


def plain(label: str) -> str:
    """A label without case, and without any marks and spaces around it."""
    return re.sub(r"^[\W_]+|[\W_]+$", "", label.casefold())
