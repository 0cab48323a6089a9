"""Gin files as data: macros only (`NAME = value`, `NAME = %OTHER`, `include '…'`), read with gin's parser.

Nothing is imported or called, and no configuration of the process changes. What wires code (imports, bindings
of functions, references with @) is T5X's use of gin, and refused here by file and line.
"""

import dataclasses
import importlib.resources
import pathlib
import tokenize
from collections.abc import Mapping, Sequence
from typing import Any

from distill_jax import files
from distill_jax.config.options import nearest
from distill_jax.errors import UserError, words_of

_USUAL = "t5_1_1/"  # the family of a model that is given by its size alone
_HUB = "hf://"


@dataclasses.dataclass(frozen=True, slots=True)
class Macro:
    """A reference `%NAME` to another macro."""

    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """A value on the command line, or a reference `@name`, whose meaning depends on the option."""

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
            return Text(f"@{scoped_configurable_name}")

        def macro(self, macro_name):
            return Macro(macro_name)

    return Delegate()


def find(name: str, search_paths: Sequence[str] = ()) -> pathlib.Path:
    """The path of a gin file: as it is, in a search path, or among the shipped ones.

    Raises:
      UserError: when there is none.
    """
    for folder in ("", *search_paths, _shipped()):
        path = pathlib.Path(folder, name)
        if path.is_file():
            return path
    known = [str(path.relative_to(_shipped())) for path in _shipped().glob("[!t]*/**/*.gin")]
    raise UserError(f"--gin_file {name}: no such file; {nearest(name, known)}")


def _shipped() -> pathlib.Path:
    return pathlib.Path(str(importlib.resources.files("distill_jax.gin_configs")))


def models() -> list[str]:
    """The models among the shipped files, as `--model` takes them, sorted by family."""
    root = _shipped() / "models"
    paths = sorted(path.relative_to(root).with_suffix("") for path in root.glob("*/*.gin"))
    return [path.as_posix() for path in paths if path.name != "common"]


def model_file(name: str, search_paths: Sequence[str] = ()) -> str:
    """The gin file of a model: `small` and `t5_1_1/small` are models/t5_1_1/small.gin.

    Raises:
      UserError: when there is none, in a search path or among the shipped ones.
    """
    file = f"models/{name if '/' in name else _USUAL + name}.gin"
    if not any(pathlib.Path(folder, file).is_file() for folder in ("", *search_paths, _shipped())):
        raise UserError(f"--model {name}: no such model; {nearest_model(name)}")
    return file


def nearest_model(name: str) -> str:
    """What to say beside a name that no shipped model has: the nearest that has one.

    That is the model which starts from the checkpoint that a hub calls so, with its organisation or without.
    """
    is_of_hub = name.startswith(_HUB)
    asked = name.removeprefix(_HUB).lower()
    for model in models():
        start = read(f"models/{model}.gin").get("INITIAL_CHECKPOINT_PATH")
        public = start.value.removeprefix(_HUB) if start else "/"
        if asked in (public.lower(), public.lower().partition("/")[2]):
            return (
                f"did you mean {model}, which starts from {_HUB}{public}? (--init {_HUB}ORG/NAME gives another)"
            )
    known = [model.removeprefix("" if "/" in name else _USUAL) for model in models()]
    hint = nearest(name, known, "see distill-jax models")
    if is_of_hub or (
        "/" in name and not any(model.startswith(f"{name.partition('/')[0]}/") for model in known)
    ):
        hint += f"; a checkpoint of a hub is given by --init {_HUB}ORG/NAME, beside the --model of its shape"
    return hint


def read(name: str, search_paths: Sequence[str] = (), within: tuple[str, ...] = ()) -> dict[str, Binding]:
    """The macros of a gin file and of those it includes, later ones in place of earlier ones.

    Args:
      name: see `find`.
      search_paths: folders to look in.
      within: paths of the files that include it.

    Raises:
      UserError: for a file that is missing, is not gin, or holds more than macros; names file and line.
    """
    from gin import config_parser

    path = find(name, search_paths)
    if str(path) in within:
        raise UserError(f"{path}: includes itself, by way of {' and '.join(within)}")
    found: dict[str, Binding] = {}
    try:
        for statement in config_parser.ConfigParser(files.read_text(path), _delegate()):
            where = f"{path}, line {statement.location.line_num}"
            if isinstance(statement, config_parser.IncludeStatement):
                found |= read(statement.filename, search_paths, (*within, str(path)))
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
        raise UserError(f"{path}, line {error.lineno or '?'}: {' '.join(str(error.msg).split())}") from None
    except (
        tokenize.TokenError,
        RecursionError,
        ValueError,
        TypeError,
        MemoryError,
    ) as error:  # gin lets them pass
        raise UserError(f"{path}: not gin: {words_of(error):.200}") from None
    return found


def resolve(bindings: Mapping[str, Binding]) -> tuple[dict[str, Any], set[str]]:
    """The values of macros, `%NAME` looked up; and the names that were: a file may make up its own for that.

    Raises:
      UserError: for a reference to a macro that is not there, or to itself.
    """
    referred: set[str] = set()

    def look_up(value: Any, within: tuple[str, ...]) -> Any:
        if isinstance(value, Mapping):
            return {key: look_up(part, within) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(look_up(part, within) for part in value)
        if not isinstance(value, Macro):
            return value
        name, where = within[-1], bindings[within[-1]].where
        if value.name in within:
            raise UserError(f"{where}: {name} refers to itself")
        if value.name not in bindings:
            raise UserError(f"{where}: %{value.name}: {nearest(value.name, bindings)}")
        referred.add(value.name)
        return look_up(bindings[value.name].value, (*within, value.name))

    return {name: look_up(binding.value, (name,)) for name, binding in bindings.items()}, referred
