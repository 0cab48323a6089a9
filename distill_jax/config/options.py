"""An option is a field: its type, default and help, from which flag, macro, checks and docs row follow.

`Options` is the base of all configuration classes. It makes them dataclasses, which are frozen, take keywords
only, and check the kind and range of each value, whether it comes from a flag, a gin file, JSON or Python.
"""

import ast
import dataclasses
import difflib
import functools
import math
import numbers
import operator
import os
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any

from distill_jax.errors import UserError

REQUIRED: Any = type("Required", (), {"__repr__": lambda self: "required"})()
ALL_OPTIONS = "see distill-jax options"
_BOUNDS = (
    ("minimum", "of at least", operator.ge),
    ("above", "above", operator.gt),
    ("maximum", "up to", operator.le),
    ("below", "below", operator.lt),
)
_WORDS = {int: "a whole number", float: "a number", bool: "True or False", str: "a text", tuple: "a list"}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """What `option` says of a field; the field's metadata hold it under `option`."""

    help: str  # one line
    flags: tuple[str, ...] = ()  # without dashes, the usual first; the field's own name is always one of them
    macro: str | None = None  # T5X's name; default the field's in capitals
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None  # numbers must be larger
    below: float | None = None  # numbers must be smaller
    choices: tuple[str, ...] = ()  # texts that can be given
    keys: tuple[str, ...] = ()  # of a mapping, in the order of the short form `512,256`
    off: tuple[str, ...] = ()  # further flags that mean False
    metavar: str | None = None  # what help calls the value
    positional: bool = False  # given without a flag
    repeat: bool = False  # a flag that may be repeated, each time with one text; positional: one text or more
    path: bool = False  # files or folders; written to JSON as absolute paths where they are there
    identity: bool = False  # part of what a run is: resuming it with another value is refused
    guarded: str = ""  # why a file's value counts only with --trust; see `trust.refuse_guarded`


def option(default: Any, help: str, **details: Any) -> Any:
    """A field of an `Options` class; the default `REQUIRED` is none, `details` are those of `Option`."""
    given = {"default_factory": default.copy} if isinstance(default, dict) else {"default": default}
    return dataclasses.field(**given, metadata={"option": Option(help=help, **details)})


fixed = functools.partial(option, identity=True)  # an option that a resumed run has to have again


def default_of(field: dataclasses.Field) -> Any:
    """The default of a field, `REQUIRED` where it has none."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def macro_of(field: dataclasses.Field) -> str:
    """The gin macro of a field."""
    return field.metadata["option"].macro or field.name.upper()


def flags_of(field: dataclasses.Field) -> tuple[str, ...]:
    """The flags of a field, dashes included, the usual first; none for a positional argument."""
    entry = field.metadata["option"]
    if entry.positional:
        return ()
    return tuple(f"--{name}" for name in dict.fromkeys((*entry.flags, field.name.replace("_", "-"))))


def metavar_of(field: dataclasses.Field) -> str | None:
    """What help calls the value of a field; None where the kind of value says it."""
    entry = field.metadata["option"]
    return entry.metavar or (field.name.upper() if entry.positional else None)


def label_of(field: dataclasses.Field) -> str:
    """How messages call an option: `--steps (TRAIN_STEPS)`; a positional argument by what help calls it."""
    name = next(iter(flags_of(field)), metavar_of(field))
    return name if name == macro_of(field) else f"{name} ({macro_of(field)})"


def nearest(name: str, known: Collection[str], otherwise: str = "") -> str:
    """`did you mean X?`; where nothing is near all names, or `otherwise` where these are more than a dozen.

    The dashes before flags do not count: they would make all short flags alike.
    """
    bare = {each.lstrip("-"): each for each in known}
    near = difflib.get_close_matches(name.lstrip("-"), bare, n=1)
    if near:
        return f"did you mean {bare[near[0]]}?"
    return otherwise if otherwise and len(known) > 12 else f"there are: {', '.join(sorted(known))}"


@functools.cache
def kinds_of(annotation: Any) -> tuple[tuple[type, ...], bool, type]:
    """(base types, whether None is allowed, type of the items of a list or mapping) of an annotation."""
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    parts = typing.get_args(annotation) if is_union else (annotation,)
    items = [
        args[1 if typing.get_origin(part) is dict else 0] for part in parts if (args := typing.get_args(part))
    ]
    bases = tuple(typing.get_origin(part) or part for part in parts if part is not types.NoneType)
    return bases, types.NoneType in parts, items[0] if items else object


def _bounds(field: dataclasses.Field) -> list[tuple[str, Callable[[Any, float], bool], float]]:
    """(words, comparison, bound) of each bound that a number has."""
    entry = field.metadata["option"]
    return [
        (words, holds, bound) for name, words, holds in _BOUNDS if (bound := getattr(entry, name)) is not None
    ]


def expected(field: dataclasses.Field) -> str:
    """What a value of a field has to be, in words."""
    entry = field.metadata["option"]
    kinds, optional, _ = kinds_of(field.type)
    if dict in kinds:
        words = [",".join(f"{key}=N" for key in entry.keys or ["NAME"])]
        words[0] += f" or {','.join('N' for _ in entry.keys)}" if entry.keys else ""
    else:
        words = [_WORDS[kind] for kind in kinds if not (kind is str and entry.choices)]
    if words and (bounds := [f"{word} {bound:.15g}" for word, _, bound in _bounds(field)]):
        words[0] += f" {' and '.join(bounds)}"
    return " or ".join([*words, *entry.choices, *(["None"] if optional else [])])


def _refuse(field: dataclasses.Field, value: Any) -> typing.NoReturn:
    near = isinstance(value, str) and difflib.get_close_matches(value, field.metadata["option"].choices, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UserError(f"{label_of(field)}: expected {expected(field)}, got {value!r:.80}{hint}")


def _number(field: dataclasses.Field, value: Any, kinds: tuple[type, ...]) -> Any:
    if isinstance(value, numbers.Integral) and abs(value) >= 1 << 63:
        _refuse(field, value)
    if isinstance(value, numbers.Integral) and int in kinds:
        value = int(value)
    elif float in kinds:
        value = float(value)
    else:
        _refuse(field, value)
    inside = math.isfinite(value) and all(holds(value, bound) for _, holds, bound in _bounds(field))
    return value if inside else _refuse(field, value)


def check(field: dataclasses.Field, value: Any) -> Any:
    """The value of an option, as its type has it.

    Raises:
      UserError: for a value of another kind or outside the range; names flag and macro.
    """
    entry = field.metadata["option"]
    kinds, optional, item = kinds_of(field.type)
    if value is REQUIRED:
        where = f"{flags_of(field)[0]} VALUE" if flags_of(field) else metavar_of(field)
        raise UserError(f"no value for {macro_of(field)}: pass {where} or --gin.{macro_of(field)}=VALUE")
    if value is None and optional:
        return None
    if isinstance(value, bool):
        return value if bool in kinds else _refuse(field, value)
    if isinstance(value, numbers.Real) and (int in kinds or float in kinds):
        return _number(field, value, kinds)
    if isinstance(value, str | os.PathLike) and str in kinds:
        text = os.fspath(value)
        if "\0" in text:  # from a file: no path has it, and no command line
            _refuse(field, text)
        return text if not entry.choices or text in entry.choices else _refuse(field, text)
    if isinstance(value, list | tuple) and tuple in kinds:
        for part in value:
            if not isinstance(part, item) or (entry.choices and part not in entry.choices):
                _refuse(field, part)
            if isinstance(part, str) and "\0" in part:
                _refuse(field, part)
        return tuple(value)
    if isinstance(value, Mapping) and dict in kinds:
        are_numbers = all(
            isinstance(part, numbers.Real) and not isinstance(part, bool) for part in value.values()
        )
        if not are_numbers or (entry.keys and set(value) != set(entry.keys)):
            _refuse(field, dict(value))
        return {str(name): _number(field, part, (item,)) for name, part in value.items()}
    _refuse(field, value)


def parse(field: dataclasses.Field, text: str) -> Any:
    """The value of an option that a flag's text stands for.

    Raises:
      UserError: see `check`.
    """
    kinds, optional, item = kinds_of(field.type)
    stripped = text.strip()
    if bool in kinds and stripped.lower() in ("true", "false", "1", "0"):
        return stripped.lower() in ("true", "1")
    for kind, pattern in ((int, r"[+-]?[0-9]+"), (float, r"[+-]?[0-9.]+([eE][+-]?[0-9]+)?")):
        if kind in kinds and re.fullmatch(pattern, stripped):
            try:
                return check(field, kind(stripped))
            except ValueError:
                _refuse(field, text)
    if optional and stripped.lower() == "none" and str not in kinds:
        return None
    if str in kinds:
        return check(field, text)
    if tuple in kinds:
        return check(field, tuple(part.strip() for part in text.split(",")) if stripped else ())
    if dict in kinds:
        return check(field, _pairs(field, stripped, item))
    _refuse(field, text)


def _pairs(field: dataclasses.Field, text: str, item: type) -> dict[str, Any]:
    """Reads `data=8,fsdp=2`, and `512,256` where the option has keys."""
    parts = [part.strip() for part in text.split(",")]
    keys = field.metadata["option"].keys
    if keys and len(parts) == len(keys) and not any("=" in part for part in parts):
        parts = [f"{key}={part}" for key, part in zip(keys, parts, strict=True)]
    try:
        pairs = [part.split("=") for part in parts]
        values = {name.strip(): item(value) for name, value in pairs}
    except ValueError:
        _refuse(field, text)
    return values if len(values) == len(pairs) else _refuse(field, text)


def parse_gin(field: dataclasses.Field, text: str) -> Any:
    """The value that the text of `--gin.NAME=VALUE` stands for: as gin writes it, or as a flag does.

    A text needs no inner quotes. `@module.name()` is the choice `name`, where the option has such a choice.
    """
    kinds, optional, _ = kinds_of(field.type)
    stripped = text.strip()
    if stripped == "None" and optional:
        return None
    if reference := re.fullmatch(r"@(?:\w+[./])*(\w+)(?:\(\))?", stripped):
        return check(field, reference[1]) if field.metadata["option"].choices else _refuse(field, text)
    if stripped[:1] in tuple("'\"([{"):
        try:
            return check(field, ast.literal_eval(stripped))
        except (SyntaxError, ValueError):
            pass
    return parse(field, stripped)


def _absolute(path: str) -> str:
    return os.path.abspath(path) if os.path.exists(path) else path


@typing.dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(option, fixed))
@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Base of the configuration classes; a subclass checks across fields in a method `verify`."""

    def __init_subclass__(cls) -> None:
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, check(field, getattr(self, field.name)))
        for cls in reversed(type(self).__mro__):
            if "verify" in vars(cls):
                vars(cls)["verify"](self)

    @classmethod
    def options(cls) -> dict[str, dataclasses.Field]:
        """The fields by name."""
        return {field.name: field for field in dataclasses.fields(cls)}

    @classmethod
    def by_macro(cls) -> dict[str, dataclasses.Field]:
        """The fields by the name of their gin macro."""
        return {macro_of(field): field for field in dataclasses.fields(cls)}

    @classmethod
    def named(cls, name: str) -> str:
        """How messages call the option of a field; see `label_of`."""
        return label_of(cls.options()[name])

    def identity(self) -> dict[str, Any]:
        """The values, as in JSON, that make a run what it is."""
        fields = self.options()
        return {n: value for n, value in self.to_json().items() if fields[n].metadata["option"].identity}

    def to_json(self) -> dict[str, Any]:
        """All values, ready for `json.dumps`; paths of what is there are absolute."""
        values = {name: getattr(self, name) for name in self.options()}
        for name, field in self.options().items():
            if field.metadata["option"].path and values[name]:
                several = isinstance(values[name], tuple)
                paths = [_absolute(path) for path in (values[name] if several else [values[name]])]
                values[name] = tuple(paths) if several else paths[0]
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any], **changes: Any) -> typing.Self:
        """The inverse of `to_json`, with some values changed.

        Raises:
          UserError: for a name that is no option.
        """
        for name in values:
            if name not in cls.options():
                raise UserError(f"no option {name!r}: {nearest(name, cls.options(), ALL_OPTIONS)}")
        return cls(**{**values, **changes})


class JsonOption(Options):
    """What is printed"""

    json: bool = option(False, "print JSON alone on standard output")
