"""Where the values of a configuration come from: a saved `config.json`, gin files, gin bindings, flags."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from distill_jax import files
from distill_jax.config import gin_files
from distill_jax.config.gin_files import Binding, Macro, Text
from distill_jax.config.network import OF_A_RUN, ModelOptions
from distill_jax.config.options import ALL_OPTIONS, Options, check, macro_of, nearest, parse, parse_gin
from distill_jax.config.start import SCRATCH, StartOptions
from distill_jax.config.trust import refuse_guarded
from distill_jax.errors import UserError

T = TypeVar("T", bound=Options)
_START = "initial_checkpoint_path"
_GIN_FLAG = "--gin."
OF_A_CHECKPOINT = ModelOptions.options().keys() - OF_A_RUN


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sources:
    """What a command line gives beside the flags of single options; later ones count more."""

    config: str | None = None  # a `config.json`, or the folder of the run that it is of
    model: str | None = None  # a file of gin_configs/models, such as `t5_1_1/small` or `small`
    gin_files: Sequence[str] = ()  # paths, or names below gin_configs
    gin_bindings: Sequence[tuple[str, str]] = ()  # (macro, text)
    search_paths: Sequence[str] = ()  # folders to look for gin files in


def build(cls: type[T], sources: Sources = Sources(), texts: Mapping[str, Any] = {}, **values: Any) -> T:
    """A configuration from all that a command line gives.

    Args:
      cls: its class.
      sources: files and gin bindings.
      texts: texts of flags by field; a list for a flag that was repeated, a bool for a switch.
      **values: values that count more than all of these.

    Raises:
      UserError: for a name that is no option of `cls`, a value of another kind or range, and what a file holds
        that is no macro, or that counts only with `--trust`.
    """
    saved = _saved(cls, sources.config) if sources.config else {}
    from_gin, places, named = _from_gin(cls, sources)
    given = {name: value for name, value in from_gin.items() if places[name].startswith(_GIN_FLAG)}
    for name, text in texts.items():
        field = cls.options()[name]
        given[name] = parse(field, text) if isinstance(text, str) else check(field, text)
    given |= values
    if not given.get("trust"):
        of_files = {name: value for name, value in (saved | from_gin).items() if name not in given}
        refuse_guarded(of_files, dict.fromkeys(saved, f"--config {sources.config}") | places, cls.options())
    found = saved | from_gin | given
    if named is not None and _START not in texts and _START not in values:
        shapes = (
            {name: part for name, part in each.items() if name in OF_A_CHECKPOINT} for each in (named, found)
        )
        if ModelOptions(**next(shapes)) != ModelOptions(**next(shapes)):
            found[_START] = SCRATCH
    return cls(**found)


def _saved(cls: type[Options], path: str) -> dict[str, Any]:
    file = pathlib.Path(path)
    file = file / "config.json" if file.is_dir() else file
    values = files.read_json(file)
    if not isinstance(values, dict):
        raise UserError(f"--config {file}: expected an object of options and values")
    for name in values:
        if name not in cls.options():
            raise UserError(f"--config {file}: no option {name!r}: {nearest(name, cls.options(), ALL_OPTIONS)}")
        try:
            check(cls.options()[name], values[name])
        except UserError as error:
            raise UserError(f"--config {file}: {error}") from None
    values.pop("trust", None)  # what a run was trusted with is asked again
    return values


def _from_gin(
    cls: type[Options], sources: Sources
) -> tuple[dict[str, Any], dict[str, str], dict[str, Any] | None]:
    """Values of gin files and bindings, where each is given, and the network that a start checkpoint is of.

    Values and places are by field. The network is that of the model file that names the checkpoint; None
    without such a file, or where the command has no network.
    """
    bindings: dict[str, Binding] = {}
    by_macro = cls.by_macro()
    read: list[dict[str, Binding]] = []
    if sources.model is not None:  # its file says more than each command needs
        file = gin_files.model_file(sources.model, sources.search_paths)
        shape = gin_files.read(file, sources.search_paths)
        read.append({name: binding for name, binding in shape.items() if name in by_macro})
    read += [gin_files.read(name, sources.search_paths) for name in sources.gin_files]
    for file in read:
        bindings |= file
    for name, text in sources.gin_bindings:
        value = Macro(text[1:]) if re.fullmatch(r"%\w+", text) else Text(text)
        bindings[name] = Binding(value, f"{_GIN_FLAG}{name}")
    resolved, referred = gin_files.resolve(bindings)
    values, places = {}, {}
    for name, value in resolved.items():
        where = bindings[name].where
        if name in by_macro:
            values[by_macro[name].name] = _read(by_macro[name], value, where)
            places[by_macro[name].name] = where
        elif name not in referred:
            raise UserError(f"{where}: {_unknown(name, by_macro)}")
    for file in read:
        start = file.get(macro_of(StartOptions.options()[_START]))
        if "emb_dim" in cls.options() and start is not None and start in bindings.values():
            own = gin_files.resolve(file)[0]
            network = {by_macro[name].name: value for name, value in own.items() if name in by_macro}
            return values, places, network
    return values, places, None


def _read(field: dataclasses.Field, value: Any, where: str) -> Any:
    """The value of an option that gin's value stands for."""
    try:
        return parse_gin(field, value.text) if isinstance(value, Text) else check(field, value)
    except UserError as error:
        raise UserError(str(error) if where.startswith(_GIN_FLAG) else f"{where}: {error}") from None


def _unknown(name: str, known: Mapping[str, Any]) -> str:
    if "." in name or "/" in name:
        return f"{name} binds a function's argument, which only T5X does; our engine takes macros, NAME = value"
    return f"no option is called {name}; {nearest(name, known, ALL_OPTIONS)}"


def from_macros(cls: type[T], macros: Mapping[str, Any], **values: Any) -> T:
    """A configuration from macros that somebody else has read; those that `cls` does not have are left out."""
    by_macro = cls.by_macro()
    return cls(**{by_macro[name].name: value for name, value in macros.items() if name in by_macro} | values)
