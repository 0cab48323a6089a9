"""Whether a value that was read from JSON is of a type: what a file that somebody edited is checked with."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from distill_jax.errors import UserError

_WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
_WORDS |= {dict: "an object", list: "a list"}


def require(value: Any, kind: Any, place: str = "") -> None:
    """Checks a value of JSON against a type.

    Args:
      value: as `json.loads` gives it.
      kind: str, int, bool, float (a whole number is one too), Any, a list, a dict with texts as keys, a union
        with None, a `TypedDict`, or a dataclass: its fields with a default may be missing.
      place: of the value in the file, such as `model.emb_dim`.

    Raises:
      UserError: names the first place with a value of another type, a missing or an unknown entry.
    """
    if kind is Any:
        return
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        (kind,) = (part for part in typing.get_args(kind) if part is not types.NoneType)
        if value is None:
            return
    is_record = dataclasses.is_dataclass(kind) or typing.is_typeddict(kind)
    base = dict if is_record else typing.get_origin(kind) or kind
    accepted = (int, float) if base is float else base
    if not isinstance(value, accepted) or isinstance(value, bool) != (base is bool):
        raise UserError(f"{place or 'the file'}: expected {_WORDS[base]}, got {value!r:.60}")
    if is_record:
        _require_entries(value, kind, place)
    elif base is dict and typing.get_args(kind):
        for name, part in value.items():
            require(part, typing.get_args(kind)[1], _below(place, name))
    elif base is list:
        for number, part in enumerate(value):
            require(part, typing.get_args(kind)[0], f"{place}[{number}]")


def require_known(values: Any, kinds: Mapping[str, Any], place: str = "", partial: bool = False) -> None:
    """Checks those entries of an object that are read, by their types; others may be there.

    With `partial` they may be missing. Raises UserError as `require`.
    """
    require(values, dict, place)
    for name, kind in kinds.items():
        if name in values or not partial:
            require(values.get(name), kind, _below(place, name))


def _require_entries(values: Mapping[str, Any], kind: Any, place: str) -> None:
    hints = typing.get_type_hints(kind)
    if dataclasses.is_dataclass(kind):
        required = [field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING]
    else:
        required = kind.__required_keys__
    for name in required:
        if name not in values:
            raise UserError(f"{_below(place, name)} is missing")
    for name, value in values.items():
        if name not in hints:
            raise UserError(f"{_below(place, name)} is unknown: there are {', '.join(hints)}")
        require(value, hints[name], _below(place, name))


def _below(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
