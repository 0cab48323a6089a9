"""Rows with named columns, of whatever file or set, to examples."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from distill_jax.data.schema import FIELDS, Example
from distill_jax.data.sources.base import encodable, text_of
from distill_jax.errors import UserError

TARGETS = ("label", "teacher_label", "rationale", "label_probs")
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

    Raises:
      UserError: for a field that an example does not have.
    """

    def __init__(self, columns: Mapping[str, str] | None = None, needs_target: bool = True):
        unknown = set(columns or {}) - set(FIELDS)
        if unknown:
            raise UserError(f"unknown field {min(unknown)!r}: expected one of {', '.join(FIELDS)}")
        self.columns = {field: field for field in FIELDS} | dict(columns or {})
        self._needs_target = needs_target

    def _value(self, where: str, row: Mapping[str, Any], field: str) -> Any:
        """What a field's column holds; None where it is not there, null or NaN (pandas' null)."""
        column = self.columns[field]
        names = [] if column in row else _PLACEHOLDER.findall(column)
        if names:
            parts = {name: text_of(where, row, name) for name in names}
            return _PLACEHOLDER.sub(lambda match: parts[match[1]], column)
        value = row.get(column)
        return None if isinstance(value, float) and value != value else value

    def _text(self, where: str, row: Mapping[str, Any], field: str) -> str | None:
        value = self._value(where, row, field)
        if value is None:
            return None
        if not isinstance(value, str | int | float):
            raise UserError(f"{where}: expected text in {self.columns[field]!r}, got {value!r:.40}")
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            value = int(value)  # a column of integers with a null in it is one of floats
        if field in ("label", "teacher_label") and type(value) is int and value == -1:
            return None  # what sets with numbered classes have for a row without a label
        return encodable(where, str(value)) if str(value).strip() else None

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

    def _choices(self, where: str, row: Mapping[str, Any]) -> tuple[str, ...] | None:
        values = self._list(where, row, "choices", "texts", _is_text)
        return None if values is None else tuple(dict.fromkeys(encodable(where, str(v)) for v in values))

    def identity(self, where: str, row: Mapping[str, Any]) -> str | None:
        """The id of a row, if it has one."""
        return self._text(where, row, "id")

    def targets(self, where: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """The fields `TARGETS` of a row, None where it has none; a UserError for a column of the wrong kind."""
        fields = {field: self._text(where, row, field) for field in ("label", "teacher_label", "rationale")}
        return fields | {"label_probs": self._probabilities(where, row)}

    def _input(self, where: str, row: Mapping[str, Any]) -> str:
        column = self.columns["input"]
        made = self._value(where, row, "input")
        return text_of(where, row if made is None else {**row, column: made}, column)

    def input(self, where: str, row: Mapping[str, Any]) -> Example:
        """What a student needs of a row to predict, with `where` as its id; no target is asked for."""
        rationale, choices = self._text(where, row, "rationale"), self._choices(where, row)
        return Example(where, self._input(where, row), rationale=rationale, choices=choices)

    def example(self, where: str, default_id: str, row: Mapping[str, Any]) -> Example:
        """The example of a row, which errors name as `where` and without an id is called `default_id`.

        Raises:
          UserError: for a row without input or target, and for a column of the wrong kind.
        """
        text, fields = self._input(where, row), self.targets(where, row)
        if self._needs_target and all(value is None for value in fields.values()):
            expected = ", ".join(repr(self.columns[field]) for field in TARGETS)
            hint = (
                " (-1 says that there is none: leave such rows out)"
                if row.get(self.columns["label"]) == -1
                else ""
            )
            raise UserError(f"{where}: no label and no rationale{hint}: expected one of {expected}")
        name = self.identity(where, row) or default_id
        return Example(name, text, **fields, choices=self._choices(where, row))
