"""Command line parsers from configuration classes: a flag for each field, and the flags of gin."""

import argparse
import dataclasses
import inspect
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from distill_jax.config import COMMANDS
from distill_jax.config.options import REQUIRED, Options, default_of, flags_of, kinds_of, metavar_of, nearest
from distill_jax.config.sources import Sources, build
from distill_jax.errors import Status

SOURCES = {
    "--config": ("FILE", "config.json of a run, or the run's folder: its options as they were"),
    "--model": ("NAME", "a file of gin_configs/models: small, t5_1_1/small, byt5/base; default T5 1.1 small"),
    "--gin_file": ("FILE", "macros, NAME = value; may be repeated"),
    "--gin.NAME": ("VALUE", "one macro"),
    "--gin_search_paths": ("DIR,…", "folders to look for gin files in"),
}

# What other trainers call a flag -> what it is called here.
ELSEWHERE = {"lr": "learning-rate", "wd": "weight-decay", "bs": "batch-size", "max-steps": "steps"}
ELSEWHERE |= {"per-device-train-batch-size": "batch-size", "num-train-epochs": "epochs", "num-epochs": "epochs"}
ELSEWHERE |= {"output-dir": "model-dir", "max-length": "lengths", "model-name-or-path": "init"}
ELSEWHERE |= {"train-file": "data", "validation-file": "validation-data", "test-file": "test-data"}


class Parser(argparse.ArgumentParser):
    """A parser of the flags of an `Options` class.

    A value may begin with a dash, as long as it is no flag of the command. An unknown flag or command is an
    error that names the nearest. All texts stay texts: `configuration` reads them. `actions` are those of the
    options by field, `sources` of `SOURCES` by flag; `commands` are the parsers of the commands below by name.
    """

    commands: Mapping[str, argparse.ArgumentParser] = {}

    def __init__(self, *args, options: type[Options] | None = None, **kwargs):
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(*args, allow_abbrev=False, formatter_class=formatter, **kwargs)
        self.options = options
        self.actions: dict[str, argparse.Action] = {}
        self.sources: dict[str, argparse.Action] = {}
        if options is not None:
            self._add_options(options)
            fields = options.options().values()
            words = [f"[{metavar_of(field)}]" for field in fields if field.metadata["option"].positional]
            self.usage = f"{self.prog} {' '.join(words)} [--FLAG VALUE …]"

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
            if flag != "--model" or has_model(options):  # the flag is the destination: no option is called so
                added = group.add_argument(flag, metavar=metavar, help=text, action="append", dest=flag)
                self.sources[flag] = added
        group.add_argument("--gin_bindings", help=argparse.SUPPRESS, action="append", dest="--gin_bindings")

    def add_subparsers(self, **kwargs):
        """As argparse's, and learns the `commands`."""
        below = super().add_subparsers(required=True, metavar="COMMAND", **kwargs)
        self.commands = below.choices
        return below

    def _add_option(self, group: Any, field: dataclasses.Field) -> None:
        entry = field.metadata["option"]
        kinds = kinds_of(field.type)[0]
        common: dict[str, Any] = {"help": help_of(field), "default": argparse.SUPPRESS}
        if entry.positional:
            many = "*" if entry.repeat else "?"
            self.actions[field.name] = group.add_argument(
                field.name, nargs=many, metavar=metavar_of(field), **common
            )
            return
        common["dest"] = field.name
        if kinds == (bool,):
            group.add_argument(*flags_of(field), action=argparse.BooleanOptionalAction, **common)
            common["help"] = f"the same as --no-{field.name.replace('_', '-')}"
            for name in entry.off:
                group.add_argument(f"--{name}", action="store_false", **common)
            return
        metavar = entry.metavar
        if metavar is None and entry.choices and str in kinds:
            metavar = "{" + ",".join([*(["N"] if int in kinds or float in kinds else []), *entry.choices]) + "}"
        common["metavar"] = metavar or {int: "N", float: "X"}.get(kinds[0], "TEXT")
        how = "append" if entry.repeat else "store"
        self.actions[field.name] = group.add_argument(*flags_of(field), action=how, **common)

    def parse_known_args(self, args=None, namespace=None):
        """As argparse's, after values that begin with a dash are joined to their flags."""
        args = list(sys.argv[1:] if args is None else args)
        if self.commands and not args:
            self.error(f"{self.prog} needs a command; there are: {', '.join(sorted(self.commands))}")
        if self.commands and not args[0].startswith("-") and args[0] not in self.commands:
            self.error(f"{self.prog} has no command {args[0]!r}; {nearest(args[0], self.commands)}")
        namespace, rest = super().parse_known_args(self._joined(args) if self.options else args, namespace)
        if self.options and rest:
            self.refuse(rest[0])
        return namespace, rest

    def refuse(self, argument: str) -> NoReturn:
        """Ends with a line on an argument that is none of this command's."""
        flag = argument.partition("=")[0]
        if not flag.startswith("-"):
            self.error(f"{argument!r} is one argument too many for {self.prog}")
        hint = self._hint(flag) if self.options else "flags come after the command; see --help"
        self.error(f"{self.prog} has no flag {flag}; {hint}")

    def _hint(self, flag: str) -> str:
        """What may be meant by an unknown flag.

        The flag here of what other trainers call so, one that begins so, or an argument; with the commands that
        have such a flag. Else the nearest.
        """
        word = flag.lstrip("-").replace("_", "-")
        word = ELSEWHERE.get(word, word)
        known = [name for name in self._option_string_actions if name.startswith("--")]
        hints = [f"did you mean {name}?" for name in known if f"{name}-".startswith(f"--{word}-")][:1]
        named = self.options.options().get(word.replace("-", "_"))
        if named and named.metadata["option"].positional:
            hints = [f"{metavar_of(named)} is given without a flag"]
        elif f"--{word}" not in known:
            others = [name for name, cls in COMMANDS.items() if f"--{word}" in all_flags(cls)]
            hints += [f"{', '.join(others)} {'have' if len(others) > 1 else 'has'} --{word}"] if others else []
        return " ".join(hints) or nearest(flag, known, f"see {self.prog} --help")

    def _joined(self, args: list[str]) -> list[str]:
        """The arguments, each value joined to its flag; `--gin.NAME=VALUE` is `--gin_bindings=NAME=VALUE`."""
        words, joined = iter(args), []
        for word in words:
            if word == "--":
                return [*joined, word, *words]
            flag, equals, value = word.partition("=")
            flag = f"-{flag}" if flag.startswith("-gin") else flag  # absl takes one dash too
            macro, action = flag.removeprefix("--gin."), self._option_string_actions.get(flag)
            if macro == flag and (action is None or action.nargs is not None):
                joined.append(word)
                continue
            if not equals:
                value = next(words, None)
                if value is None or value.partition("=")[0] in self._option_string_actions:
                    self.error(f"{flag} needs a value")
            joined.append(f"{flag}={value}" if macro == flag else f"--gin_bindings={macro}={value}")
        return joined

    def error(self, message: str) -> NoReturn:
        """Ends with one line."""
        self.exit(Status.USAGE, f"error: {message}\n")


def all_flags(options: type[Options]) -> set[str]:
    """The flags of a command, but for those that all of them have."""
    fields = options.options().values()
    return {flag for field in fields for flag in flags_of(field)} | (
        {"--model"} if has_model(options) else set()
    )


def has_model(options: type[Options]) -> bool:
    """Whether a command takes what a file of a model says: the shape of a network, or what it starts from."""
    return not {"emb_dim", "initial_checkpoint_path"}.isdisjoint(options.options())


def help_of(field: dataclasses.Field) -> str:
    """The help of an option, with its default."""
    default, text = default_of(field), field.metadata["option"].help
    if default is REQUIRED:
        text += " (required)"
    elif not isinstance(default, bool) and default not in (None, ()) and "default" not in text:
        text += f" (default {text_of(default)})"
    return text.replace("%", "%%")


def text_of(value: Any) -> str:
    """A value as a flag takes it."""
    if isinstance(value, dict):
        return ",".join(f"{key}={part}" for key, part in value.items())
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)


def configuration(args: argparse.Namespace) -> Options:
    """The configuration of a parsed command; see `sources.build`."""
    cls, given = args.options, vars(args)
    bindings = [binding.partition("=") for binding in given["--gin_bindings"] or ()]
    sources = Sources(
        config=(given["--config"] or [None])[-1],
        model=(given.get("--model") or [None])[-1],
        gin_files=given["--gin_file"] or (),
        gin_bindings=[(name.strip(), text.strip()) for name, _, text in bindings],
        search_paths=[folder.strip() for folder in ",".join(given["--gin_search_paths"] or ()).split(",")],
    )
    return build(cls, sources, {name: given[name] for name in cls.options() if name in given})
