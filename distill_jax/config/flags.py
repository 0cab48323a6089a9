"""Command line parsers from configuration classes: a flag for each field, and the flags of gin."""

import argparse
import dataclasses
import inspect
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from distill_jax.config.options import (
    REQUIRED,
    Options,
    default_of,
    flags_of,
    kinds_of,
    macro_of,
    nearest,
)
from distill_jax.config.sources import Sources, build

USAGE_STATUS = 2
SOURCES = {
    "--config": ("FILE", "config.json of a run, or the run's folder: its options as they were"),
    "--model": ("NAME", "a file of gin_configs/models: small, t5_1_1/small, byt5/base; default T5 1.1 small"),
    "--gin_file": ("FILE", "macros, NAME = value; may be repeated"),
    "--gin.NAME": ("VALUE", "one macro"),
    "--gin_search_paths": ("DIR,…", "folders to look for gin files in"),
}


class Parser(argparse.ArgumentParser):
    """A parser of the flags of an `Options` class.

    A value may begin with a dash, as long as it is no flag of the command. An unknown flag is an error that
    names the nearest. All texts stay texts: `configuration` reads them.
    """

    def __init__(self, *args, options: type[Options] | None = None, **kwargs):
        super().__init__(
            *args, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs
        )
        self.options = options
        if options is not None:
            self._add_options(options)
            names = [field for field in options.options().values() if field.metadata["option"].positional]
            words = " ".join(f"[{field.metadata['option'].metavar}]" for field in names)
            self.usage = f"{self.prog} {words} [--FLAG VALUE …]"
            self.set_defaults(sources=Sources())

    def _add_options(self, options: type[Options]) -> None:
        groups: dict[str, Any] = {}
        for field in options.options().values():
            owner = next(cls for cls in options.__mro__ if field.name in vars(cls).get("__annotations__", {}))
            title = inspect.getdoc(owner).splitlines()[0]
            if title not in groups:
                groups[title] = self.add_argument_group(title[0].lower() + title[1:])
            self._add_option(groups[title], field)
        group = self.add_argument_group("where options come from, beside flags")
        for flag, (metavar, text) in SOURCES.items():
            if flag != "--model" or has_model(options):
                group.add_argument(flag, metavar=metavar, help=text, default=argparse.SUPPRESS, dest="_source")

    def _add_option(self, group: Any, field: dataclasses.Field) -> None:
        entry = field.metadata["option"]
        kinds = kinds_of(field.type)[0]
        common: dict[str, Any] = {"help": help_of(field), "default": argparse.SUPPRESS}
        if entry.positional:
            metavar = entry.metavar or field.name.upper()
            group.add_argument(field.name, nargs="?", metavar=metavar, **common)
            return
        common["dest"] = field.name
        if kinds == (bool,):
            group.add_argument(*flags_of(field), action=argparse.BooleanOptionalAction, **common)
            for name in entry.off:
                group.add_argument(
                    f"--{name}",
                    dest=field.name,
                    action="store_false",
                    help=f"the same as --no-{field.name.replace('_', '-')}",
                    default=argparse.SUPPRESS,
                )
            return
        metavar = entry.metavar
        if metavar is None and entry.choices and str in kinds:
            metavar = "{" + ",".join([*(["N"] if int in kinds or float in kinds else []), *entry.choices]) + "}"
        common["metavar"] = metavar or {int: "N", float: "X"}.get(kinds[0], "TEXT")
        group.add_argument(*flags_of(field), action="append" if entry.repeat else "store", **common)

    def flag_names(self) -> list[str]:
        """All flags of this command, those of gin included."""
        return [*self._option_string_actions, *(SOURCES if self.options else ())]

    def parse_known_args(self, args=None, namespace=None):
        """As argparse's, after the flags of gin are taken out and values that begin with a dash are joined."""
        args = list(sys.argv[1:] if args is None else args)
        if self.options is None:
            return super().parse_known_args(args, namespace)
        sources, args = self._split(args)
        namespace, rest = super().parse_known_args(args, namespace)
        if rest:
            self.refuse(rest[0])
        namespace.sources = sources
        return namespace, []

    def refuse(self, argument: str) -> NoReturn:
        """Ends with a line on an argument that is none of this command's."""
        flag = argument.partition("=")[0]
        if not flag.startswith("-"):
            self.error(f"{argument!r} is one argument too many for {self.prog}")
        known = [name for name in self.flag_names() if name.startswith("--")]
        hint = nearest(flag, known) if self.options else "flags come after the command; see --help"
        self.error(f"{self.prog} has no flag {flag}; {hint}")

    def _split(self, args: list[str]) -> tuple[Sources, list[str]]:
        """The sources, and the other arguments with each value joined to its flag."""
        files, bindings, paths, rest = [], [], [], []
        single: dict[str, str | None] = {"config": None, "model": None}
        words = iter(args)
        for word in words:
            if word == "--":
                rest += [word, *words]
                break
            flag, equals, value = word.partition("=")
            name = flag.lstrip("-") if flag.startswith("-") else ""
            is_source = (
                name in ("gin_file", "gin_search_paths", "gin_bindings")
                or name.startswith("gin.")
                or flag == "--config"
                or (flag == "--model" and has_model(self.options))
            )
            action = self._option_string_actions.get(flag)
            takes_value = is_source or (action is not None and action.nargs is None)
            if takes_value and not equals:
                value = next(words, None)
                if value is None or value.partition("=")[0] in self._option_string_actions:
                    self.error(f"{flag} needs a value")
            if not is_source:
                rest.append(f"{flag}={value}" if takes_value else word)
            elif name == "gin_file":
                files.append(value)
            elif name == "gin_search_paths":
                paths += [part.strip() for part in value.split(",")]
            elif name == "gin_bindings":
                left, _, right = value.partition("=")
                bindings.append((left.strip(), right.strip()))
            elif name.startswith("gin."):
                bindings.append((name.removeprefix("gin."), value))
            else:
                single[name] = value
        return Sources(**single, gin_files=files, gin_bindings=bindings, search_paths=paths), rest

    def error(self, message: str) -> NoReturn:
        """Ends with one line."""
        self.exit(USAGE_STATUS, f"error: {message}\n")


def has_model(options: type[Options]) -> bool:
    """Whether a command takes the shape of a network, and so `--model` with a file of shapes."""
    return "emb_dim" in options.options()


def help_of(field: dataclasses.Field) -> str:
    """The help of an option, with its default."""
    default = default_of(field)
    text = field.metadata["option"].help
    if (
        default is None
        or default is REQUIRED
        or default == ()
        or "default" in text
        or isinstance(default, bool)
    ):
        shown = " (required)" if default is REQUIRED else ""
    else:
        shown = f" (default {text_of(default)})"
    return (text + shown).replace("%", "%%")


def text_of(value: Any) -> str:
    """A value as a flag takes it."""
    if isinstance(value, dict):
        return ",".join(f"{key}={part}" for key, part in value.items())
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)


def configuration(args: argparse.Namespace) -> Options:
    """The configuration of a parsed command; see `sources.build`."""
    cls = args.options
    texts = {name: getattr(args, name) for name in cls.options() if hasattr(args, name)}
    return build(cls, args.sources, texts)


def macros_of(cls: type[Options], sequence: Sequence[str] = ()) -> list[str]:
    """The macros of a class, or of some of its fields."""
    return [macro_of(field) for name, field in cls.options().items() if not sequence or name in sequence]
