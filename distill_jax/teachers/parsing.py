"""From the text of a completion to its label and rationale: the paper's parsers, JSON, or a prompt's form."""

import json
import math
import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distill_jax.data.completions import UNPARSED, Completion
from distill_jax.data.completions.anli import parse_anli
from distill_jax.data.completions.cqa import parse_cqa
from distill_jax.data.completions.esnli import parse_esnli
from distill_jax.data.completions.svamp import parse_svamp
from distill_jax.data.labels import spelled
from distill_jax.teachers.thinking import ended

REFERENCE = {"svamp": parse_svamp, "cqa": parse_cqa, "anli": parse_anli, "esnli": parse_esnli}
JSON = "json"
FORM = "form:"  # before the answer form of a prompt
_LETTER = "\0"  # stands for a letter in the literal parts of a form
_OBJECTS = 20  # places where an object of JSON may begin that are tried
_LAST_COMMA = re.compile(r",\s{0,99}([}\]])")
_LONGEST_REPAIR = 4000  # characters; repairing takes about a second for 100,000


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
    """`{"rationale": …, "label": …}`, alone, in a fenced block or among other text; nearly JSON is repaired.

    A number or a truth value counts as text, an answer without a rationale as a label alone. Several answers,
    a label that is a list or an object, and no label at all are no answer.
    """
    answer = _object(text)
    if answer is None:
        return UNPARSED
    fields = _fields([(_plain_name(name), value) for name, value in answer.items()])
    truth = fields.get("label")
    label = spelled(truth) if isinstance(truth, bool) else _text(truth)
    rationale = _text(fields.get("rationale"))
    return Completion(label, rationale) if label else UNPARSED


def _text(value: Any) -> str | None:
    """A text or a number as text; None for a blank one and for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return (value if isinstance(value, str) else spelled(value)).strip() or None


def _object(text: str) -> Mapping[str, Any] | None:
    """The only JSON object with a label in a text, or in an object there; the same one twice counts as one."""
    begin = text.find("{")
    if begin < 0:
        return None
    found = _labelled(_decoded(text)) or _labelled(_decoded(_LAST_COMMA.sub(r"\1", text)))
    if not found:
        repaired = _repaired(text[begin:])
        found = _labelled([repaired]) or ([repaired] if isinstance(repaired, dict) else [])
    return found[0] if found and all(other == found[0] for other in found) else None


def _decoded(text: str) -> list[Any]:
    """The objects in a text."""
    decoder = json.JSONDecoder(strict=False, object_pairs_hook=_fields)
    start, end, found = text.find("{"), 0, []
    for _ in range(_OBJECTS):
        if start < 0:
            break
        try:
            value, end = decoder.raw_decode(text, start)
            found.append(value)
        except (ValueError, RecursionError):
            end = start + 1
        start = text.find("{", end)
    return found


def _fields(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object's values by name; a name with several values has the list of them."""
    fields: dict[str, Any] = {}
    for name, value in pairs:
        fields[name] = [fields[name], value] if name in fields and fields[name] != value else value
    return fields


def _labelled(values: Sequence[Any]) -> list[Mapping[str, Any]]:
    """Those of the objects that have a label, or else the objects in them that do."""
    inner = [part for value in values if isinstance(value, dict) for part in value.values()]
    for level in (values, inner):
        found = [each for each in level if isinstance(each, dict) and "label" in map(_plain_name, each)]
        if found:
            return found
    return []


def _plain_name(name: Any) -> str:
    return str(name).strip().casefold()


def _repaired(text: str) -> Any:
    """What a library makes of a text that is nearly JSON; None where it is too long or too deep for that."""
    if len(text) > _LONGEST_REPAIR or text.count("{") + text.count("[") > _OBJECTS:
        return None
    import json_repair  # read when it is needed, which is seldom

    try:
        return json_repair.loads(text, skip_json_loads=True)
    except (ValueError, RecursionError):
        return None


def written_json(rationale: str, label: str) -> str:
    """The answer that `parse_json` reads."""
    return json.dumps({"rationale": rationale, "label": label}, ensure_ascii=False)


def form_parser(form: str) -> Callable[[str], Completion]:
    """A parser of answers such as `{rationale} So the answer is {label}.`, whatever their white space and case.

    The label ends at the form's ending or at the end of the line, and so does a rationale behind the label. The
    first match counts. Takes time in proportion to the text, whatever the text is.
    """
    fields, literals = [], [""]
    for literal, field, _, _ in string.Formatter().parse(form):
        literals[-1] += literal
        if field == "letter":
            literals[-1] += f" {_LETTER} "
        elif field is not None:
            fields.append(field)
            literals.append("")
    before, between, after = literals
    after = after.partition("\n")[0]
    opening, ending = (
        re.compile(pattern, re.IGNORECASE) for pattern in (_loosely(before), _loosely(after) + "$")
    )
    blank = r"\n\s*" if "\n" in between else r"\s+"  # what parts the fields, where no words do
    colon = r"(?::\s+)?" if between.rstrip()[-1:].isalnum() else ""  # `So the answer is: yes`
    separator = re.compile((_loosely(between) or blank) + colon, re.IGNORECASE)

    def parse(text: str) -> Completion:
        opened = opening.match(text, len(text) - len(text.lstrip()))
        parted = opened and separator.search(text, opened.end())
        if not parted:
            return UNPARSED
        stop = text.find("\n", parted.end())
        last = ended(text[parted.end() : len(text) if stop < 0 else stop]).strip()
        if after.strip() and (match := ending.search(last, max(0, len(last) - len(after) - 32))):
            last = last[: match.start()]
        read = dict(zip(fields, (text[opened.end() : parted.start()], last), strict=True))
        label, rationale = ended(read["label"]).strip(), read["rationale"].strip()
        return Completion(label, rationale or None) if label else UNPARSED

    return parse


def _loosely(literal: str) -> str:
    """Pattern of a literal part: its words with any white space between and behind them."""
    words = (r"\w" if word == _LETTER else re.escape(word) for word in literal.split())
    return "".join(word + r"\s*" for word in words)


def well_formed(text: str) -> str:
    """`text` with U+FFFD in place of halves of surrogate pairs, which no file can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def cut(text: str, stops: Sequence[str]) -> str:
    """`text` up to the first stop text, for endpoints that do not stop there themselves."""
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]


def plain(label: str) -> str:
    """A label without case, and without any marks and spaces around it."""
    return re.sub(r"^[\W_]+|[\W_]+$", "", label.casefold())
