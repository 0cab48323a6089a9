"""One equality for labels: reading, parsing, choices, soft labels, filters, reports and metrics share it."""

import functools
import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from distill_jax import files
from distill_jax.errors import UserError

_QUOTES = " \t\r\n\u00a0*_~`\"'“”‘’„‚«»‹›「」『』\u200b\u200e\u200f\ufeff"  # also marks of no width
_BEFORE = frozenset(_QUOTES + "([{<")
_BEHIND = frozenset(_QUOTES + ")]}>")
_AFTER = frozenset(_BEHIND | set(".,;:!?。，、；：！？…।॥؟،؛۔"))
_STOPS = ".!?…。 "
_MOST_AROUND = 64  # characters around a class; more are a text, not a label
_WORDS = "zero one two three four five six seven eight nine ten eleven twelve".split()
_NUMBER = re.compile(r"[+-]?\d{1,30}(?:\.\d{1,30})?", re.ASCII)
_TRUTHS = ("True", "TRUE", "False", "FALSE")
_WHOLE = re.compile(r"\s*([+-]?\d+)\.0+\s*", re.ASCII)


def spelled(value: str | float | bool) -> str:
    """A label, a choice or an id as text, with one spelling of a value: `1` for 1, 1.0 and `1.0`; `true`.

    So `True` and `TRUE`, as pandas and spreadsheets write them in a CSV file, are the `true` of JSON.
    """
    if isinstance(value, bool) or value in _TRUTHS:
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))  # a column of integers with a null in it is one of floats
    whole = _WHOLE.fullmatch(value) if isinstance(value, str) else None
    return whole[1] if whole else str(value)


def composed(text: str) -> str:
    """A text without white space around it, its letters and marks composed (Unicode's NFC)."""
    return unicodedata.normalize("NFC", text).strip()


def same(one: str, other: str | None) -> bool:
    """Whether two texts are equal but for white space around them and how Unicode composes their letters."""
    return other is not None and (one == other or composed(one) == composed(other))


def meant(label: str | None, options: Sequence[str]) -> str | None:
    """The option that a label means; None for none of them, or for more than one. See `place_of`."""
    place = place_of(label, options)
    return None if place < 0 else options[place]


def place_of(label: str | None, options: Sequence[str]) -> int:
    """Index of the option that a label means; -1 for none of them, or for more than one.

    Exactly that text counts first. Then the text of exactly one option with nothing but white space, Markdown's
    marks, quotes and brackets around it, by Unicode's NFC; then with the end of a sentence too; whatever its
    case, where no other option differs in case alone. Then without the full stop at the end of the option. Then
    the same number: `+1`, `1.0` or `One` for `1`. So no option becomes another (`C`, `C++`; `A-`, `A+`; `-1`,
    `1`; a letter with and without a vowel sign).
    """
    if label is None:
        return -1
    if label in options:
        return options.index(label)
    return _place(label, tuple(options)) if options else -1


@functools.lru_cache(maxsize=1 << 14)
def _place(label: str, options: tuple[str, ...]) -> int:
    text, exact = composed(label), _composed(options)
    if not text or len(text) > max(map(len, exact)) + _MOST_AROUND:
        return -1
    folded_text, folded = _folded(text), tuple(map(_folded, exact))
    fitting: list[int] = []
    for around in (_BEHIND, _AFTER):
        fitting = fitting or [p for p, option in enumerate(folded) if _fits(folded_text, option, around)]
    if len(fitting) > 1 and len({folded[place] for place in fitting}) == 1:
        fitting = [place for place in fitting if _fits(text, exact[place])]
    if not fitting:  # a class that ends in a full stop, which the end of the sentence took
        fitting = [place for place, option in enumerate(folded) if _fits(folded_text, option.rstrip(_STOPS))]
    if not fitting:
        value = _number(text)
        fitting = [p for p, option in enumerate(exact) if value is not None and value == _number(option)]
    return fitting[0] if len(fitting) == 1 else -1


@functools.lru_cache(maxsize=256)
def _composed(options: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(composed, options))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text.casefold())


def _fits(text: str, option: str, behind: frozenset[str] = _AFTER) -> bool:
    """Whether a text is an option with nothing but marks before it, and of those `behind` behind it."""
    start = 0
    while option:
        rest = text[start + len(option) :]
        if text.startswith(option, start) and behind.issuperset(rest):
            return True
        if start >= len(text) or text[start] not in _BEFORE:
            return False
        start += 1
    return False


def _number(text: str) -> float | None:
    """The value of a number, in digits or a word, whatever marks stand around it."""
    start, end = 0, len(text)
    while start < end and text[start] in _BEFORE:
        start += 1
    while end > start and text[end - 1] in _AFTER:
        end -= 1
    if (word := text[start:end].casefold()) in _WORDS:
        return float(_WORDS.index(word))
    digits = text[start:end].replace("\u2212", "-")  # the minus sign of typography
    return float(digits) if _NUMBER.fullmatch(digits) else None


def class_names(classes: Sequence[str] | None, path: str | None = None) -> tuple[str, ...] | None:
    """The classes of `--classes` or of the file at `path`, without blanks around them; None of neither.

    `classes` are the parts between commas, or a JSON list. The file has a class a line, or is a JSON list.

    Raises:
      UserError: for a file that cannot be read, and for a class that is named twice.
    """
    text, flag = ",".join(classes or ()), "--classes"
    parts: Sequence[Any] = classes or ()
    if path is not None:
        text, flag = files.read_text(path), f"--classes-file {path}"
        parts = text.split("\n")
    if text.lstrip().startswith("["):
        try:
            parts = json.loads(text)
        except ValueError as error:
            raise UserError(f"{flag}: expected names, or a JSON list of them: {error}") from None
        if not all(isinstance(part, str | int | float) for part in parts):
            raise UserError(f"{flag}: expected a list of texts, got {text!r:.60}")
    names = [composed(spelled(part) if not isinstance(part, str) else part) for part in parts]
    names = [name for name in names if name]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{flag}: the class {twice!r} is named twice")
    return tuple(names) or None
