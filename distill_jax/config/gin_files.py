"""Gin files as data: macros only (`NAME = value`, `NAME = %OTHER`, `include '…'`), read with gin's parser.

Nothing is imported or called, and no configuration of the process changes. What wires code (imports, bindings
of functions, references with @) is T5X's use of gin, and refused here by file and line.
"""

import dataclasses
import importlib.resources
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from distill_jax.config.options import nearest
from distill_jax.errors import UserError


@dataclasses.dataclass(frozen=True, slots=True)
class Macro:
    """A reference `%NAME` to another macro."""

    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Reference:
    """A reference `@name` or `@name()` to a function."""

    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """A value on the command line, whose meaning depends on the option."""

    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Binding:
    """The value of a macro, and the file and line that give it."""

    value: Any
    where: str


def _delegate():
    from gin import config_parser

    class Delegate(config_parser.ParserDelegate):
        def configurable_reference(self, scoped_configurable_name, evaluate):
            return Reference(scoped_configurable_name)

        def macro(self, macro_name):
            return Macro(macro_name)

    return Delegate()


def find(name: str, search_paths: Sequence[str] = ()) -> pathlib.Path:
    """The path of a gin file: as it is, in a search path, or among the shipped ones.

    Raises:
      UserError: when there is none.
    """
    folders = ["", *search_paths, str(importlib.resources.files("distill_jax.gin_configs"))]
    for folder in folders:
        path = pathlib.Path(folder, name)
        if path.is_file():
            return path
    shipped = pathlib.Path(folders[-1])
    known = [str(path.relative_to(shipped)) for path in shipped.glob("[!t]*/**/*.gin")]
    raise UserError(f"--gin_file {name}: no such file; {nearest(name, known)}")


def read(name: str, search_paths: Sequence[str] = ()) -> dict[str, Binding]:
    """The macros of a gin file and of those it includes, later ones in place of earlier ones.

    Raises:
      UserError: for a file that is missing, is not gin, or holds more than macros; names file and line.
    """
    return _read(name, tuple(search_paths), ())


def _read(name: str, search_paths: tuple[str, ...], within: tuple[str, ...]) -> dict[str, Binding]:
    from gin import config_parser

    path = find(name, search_paths)
    if str(path) in within:
        raise UserError(f"{path}: includes itself, by way of {' and '.join(within)}")
    found: dict[str, Binding] = {}
    try:
        for statement in config_parser.ConfigParser(path.read_text(encoding="utf-8"), _delegate()):
            where = f"{path}, line {statement.location.line_num}"
            if isinstance(statement, config_parser.IncludeStatement):
                found |= _read(statement.filename, search_paths, (*within, str(path)))
            elif isinstance(statement, config_parser.BindingStatement) and not statement.arg_name:
                key = "/".join(filter(None, (statement.scope, statement.selector)))
                found[key] = Binding(statement.value, where)
            else:
                line = statement.location.line_content.strip()
                raise UserError(
                    f"{where}: {line!r:.80} wires code, which only T5X does: our engine takes macros alone, "
                    "NAME = value (docs/options.md lists them)"
                )
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno or '?'}: {error.msg}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    return found


def resolve(bindings: Mapping[str, Binding]) -> dict[str, Any]:
    """The values of the macros that no other one refers to, or that stand for themselves; `%NAME` is looked up.

    Raises:
      UserError: for a reference to a macro that is not there, or to itself.
    """
    return {name: _value(name, bindings, ()) for name in bindings}


def _value(name: str, bindings: Mapping[str, Binding], within: tuple[str, ...]) -> Any:
    def look_up(value: Any) -> Any:
        if isinstance(value, Macro):
            if value.name in (*within, name):
                raise UserError(f"{bindings[name].where}: {name} refers to itself")
            if value.name not in bindings:
                raise UserError(f"{bindings[name].where}: %{value.name}: {nearest(value.name, bindings)}")
            return _value(value.name, bindings, (*within, name))
        if isinstance(value, Mapping):
            return {key: look_up(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(look_up(part) for part in value)
        return value

    return look_up(bindings[name].value)


def helpers(bindings: Iterable[Binding]) -> set[str]:
    """Names of the macros that others refer to: a file may make up its own for that."""
    names: set[str] = set()

    def look(value: Any) -> None:
        if isinstance(value, Macro):
            names.add(value.name)
        for part in (
            value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
        ):
            look(part)

    for binding in bindings:
        look(binding.value)
    return names
