"""Rows with named columns, of whatever file or set, to examples."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from distill_jax.config.data import column_flag
from distill_jax.data.labels import composed, meant, same, spelled
from distill_jax.data.schema import FIELDS, Example
from distill_jax.data.sources.base import encodable, known_columns, text_of
from distill_jax.errors import UserError

TARGETS = ("label", "teacher_label", "rationale", "label_probs")
LABELS = ("label", "teacher_label")
SPELLED = ("id", *LABELS)
CONTENT_ID = re.compile("row-[0-9a-f]{12}")  # of a row that has no id of its own
_BELOW_0 = re.compile(r"\s*-\d+\s*", re.ASCII)
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


def _is_probability(value: Any) -> bool:
    return isinstance(value, int | float) and 0.0 <= value <= 1.0


def _is_text(value: Any) -> bool:
    return isinstance(value, str | int | float) and bool(str(value).strip())


class Columns:
    """Which column holds which field of an `Example`.

    Args:
      columns: field -> column, where the names differ; or a text with columns in braces, such as
        `{premise}</s>{hypothesis}`, to make one field of several.
      needs_target: whether a row without any of `TARGETS` is an error.
      classes: the labels there are: one that means a class, or one of the row's choices, is read as it is
        written there; see `labels.place_of`. A class number below 0 is no label.
      typed: whether a number differs from its text, as it does not in CSV.

    Raises:
      UserError: for a field that an example does not have.
    """

    def __init__(
        self,
        columns: Mapping[str, str] | None = None,
        needs_target: bool = True,
        classes: Sequence[str] | None = None,
        typed: bool = True,
    ):
        unknown = set(columns or {}) - set(FIELDS)
        if unknown:
            raise UserError(f"unknown field {min(unknown)!r}: expected one of {', '.join(FIELDS)}")
        self.columns = {field: field for field in FIELDS} | dict(columns or {})
        self._given = {field: column for field, column in self.columns.items() if column != field}
        self._needs_target, self._classes, self._typed = needs_target, tuple(classes or ()), typed

    @property
    def key(self) -> str:
        """Changes when rows would be read otherwise."""
        return json.dumps([self.columns, *self._classes] if self._classes else self.columns, sort_keys=True)

    def require(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Reads `rows` of `name` until each column that was given has been in one: not all need to have it.

        Raises:
          UserError: for a column that no row has, naming those that there are, the nearest and the flag.
        """
        missing = {f: column for f, column in self._given.items() if not _PLACEHOLDER.search(column)}
        known: dict[str, None] = {}
        for row in rows if missing else ():
            missing = {field: column for field, column in missing.items() if column not in row}
            if not missing:
                return
            known |= dict.fromkeys(row)
        if known:
            field, column = next(iter(missing.items()))
            there = known_columns(known, column, column_flag(field))
            raise UserError(f"{name}: no row has {column!r} for {field}: {there}")

    def _value(self, where: str, row: Mapping[str, Any], field: str) -> Any:
        """What a field's column holds; None where it is not there, null or NaN (pandas' null)."""
        column = self.columns[field]
        names = [] if column in row else _PLACEHOLDER.findall(column)
        if names:
            parts = {name: text_of(where, row, name, column_flag(field)) for name in names}
            return _PLACEHOLDER.sub(lambda match: parts[match[1]], column)
        value = row.get(column)
        return None if isinstance(value, float) and value != value else value

    def _text(self, where: str, row: Mapping[str, Any], field: str) -> str | None:
        value = self._value(where, row, field)
        if value is None:
            return None
        if not isinstance(value, str | int | float):
            raise UserError(f"{where}: expected text in {self.columns[field]!r}, got {value!r:.40}")
        text = spelled(value) if field in SPELLED or not isinstance(value, str) else value
        return encodable(where, text) if text.strip() else None

    def _label(self, where: str, row: Mapping[str, Any], field: str) -> str | None:
        """A label as the class or choice that it means is written; None for a class number below 0."""
        text = self._text(where, row, field)
        if text is None:
            return None
        options = self._choices(where, row) or self._classes
        if text not in options and _BELOW_0.fullmatch(text):
            # What sets with numbered classes have for a row without a label.
            is_text = self._typed and isinstance(row.get(self.columns[field]), str)
            if options or (text == "-1" and not is_text):
                return meant(text, options)
        return (meant(text, options) if options else None) or text

    def _list(
        self, where: str, row: Mapping[str, Any], field: str, kind: str, is_item: Callable[[Any], bool]
    ) -> list | None:
        """A list of such items, or the text of one in JSON, as in CSV; None for a blank one."""
        value = self._value(where, row, field)
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        try:
            items = json.loads(value) if isinstance(value, str) else value
        except (ValueError, RecursionError):
            items = None
        if not isinstance(items, list) or not items or not all(map(is_item, items)):
            column = self.columns[field]
            raise UserError(f"{where}: expected a list of {kind} in {column!r}, got {row.get(column)!r:.40}")
        return items

    def _probabilities(self, where: str, row: Mapping[str, Any]) -> tuple[float, ...] | None:
        values = self._list(where, row, "label_probs", "probabilities", _is_probability)
        return None if values is None else tuple(map(float, values))

    def _listed(self, where: str, row: Mapping[str, Any]) -> list[str]:
        """The choices as the row has them, one of them twice perhaps; none where it has none."""
        values = self._list(where, row, "choices", "texts", _is_text)
        return [encodable(where, spelled(value)) for value in values or ()]

    def _choices(self, where: str, row: Mapping[str, Any]) -> tuple[str, ...] | None:
        first: dict[str, str] = {}
        for choice in self._listed(where, row):
            first.setdefault(composed(choice), choice)
        return tuple(first.values()) or None

    def repeats_choice(self, where: str, row: Mapping[str, Any]) -> bool:
        """Whether a choice stands in a row twice."""
        listed = self._listed(where, row)
        return len(set(map(composed, listed))) < len(listed)

    def identity(self, where: str, row: Mapping[str, Any]) -> str | None:
        """The id of a row, if it has one."""
        return self._text(where, row, "id")

    def targets(self, where: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """The fields `TARGETS` of a row, None where it has none; a UserError for a column of the wrong kind."""
        fields = {field: self._label(where, row, field) for field in LABELS}
        fields |= {"rationale": self._text(where, row, "rationale")}
        return fields | {"label_probs": self._probabilities(where, row)}

    def _input(self, where: str, row: Mapping[str, Any]) -> str:
        column = self.columns["input"]
        made = self._value(where, row, "input")
        return text_of(where, row if made is None else {**row, column: made}, column, column_flag("input"))

    def input(self, where: str, row: Mapping[str, Any]) -> Example:
        """What a student needs of a row to predict, with `where` as its id; no target is asked for."""
        rationale, choices = self._text(where, row, "rationale"), self._choices(where, row)
        return Example(where, self._input(where, row), rationale=rationale, choices=choices)

    def example(self, where: str, default_id: str | None, row: Mapping[str, Any]) -> Example:
        """The example of a row, which errors name as `where`; without an id it is called `default_id`.

        Where that is None it is named by its content, so that a row has the same id in whatever file it stands.
        A choice that stands there twice is one, with the probabilities of both.

        Raises:
          UserError: for a row without input or target, and for a column of the wrong kind.
        """
        text, fields = self._input(where, row), self.targets(where, row)
        if self._needs_target and all(value is None for value in fields.values()):
            expected = ", ".join(repr(self.columns[field]) for field in TARGETS)
            number = spelled(row.get(self.columns["label"])).strip()
            hint = f" ({number} says that there is none: leave such rows out, or name it in --classes)"
            hint = hint if _BELOW_0.fullmatch(number) else ""
            absent = [field for field in TARGETS if self.columns[field] not in row]
            given = next((field for field in absent if field in self._given), "")
            flags = column_flag(given) if given else " or ".join(map(column_flag, ("label", "rationale")))
            there = f"; {known_columns(row, self._given.get(given, ''), flags)}" if absent else ""
            raise UserError(f"{where}: no label and no rationale{hint}: expected one of {expected}{there}")
        listed, choices = self._listed(where, row), self._choices(where, row)
        probs = fields["label_probs"]
        if (
            choices and probs and len(probs) == len(listed) > len(choices)
        ):  # of a choice that stands there twice
            pairs = list(zip(listed, probs, strict=True))
            merged = (sum(p for text, p in pairs if same(text, choice)) for choice in choices)
            fields["label_probs"] = tuple(merged)
        name = self.identity(where, row) or default_id or content_id(text, choices)
        return Example(name, text, **fields, choices=choices)


def content_id(text: str, choices: Sequence[str] | None) -> str:
    """The id of a row without one: `row-` and 12 hex digits of its input and choices."""
    content = json.dumps([text, choices]).encode()
    return f"row-{hashlib.blake2b(content, digest_size=6).hexdigest()}"
