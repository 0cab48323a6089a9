"""Gin on the command line, with T5X's flags: --gin_file, --gin.NAME=VALUE, --gin_search_paths.

`gin_configs/` of this package is always on the search path, after the user's own folders. Three things
differ from T5X, each to turn a silent mistake into a clear line: a value that is not a gin literal is
taken as a string (`--gin.MODEL_DIR=/tmp/run` needs no inner quotes), a macro that no config file
mentions is refused, and so is any other flag.
"""

import ast
import difflib
import logging
import os
import pathlib
import re
import sys

import gin

from distill_jax.errors import UserError


def _config_root() -> str:
    from distill_jax import gin_configs

    return os.path.dirname(gin_configs.__file__)


def _split_flags(argv: list[str]) -> tuple[list[str], list[tuple[str, str]], list[str]]:
    """Splits `argv` into config files, bindings (name, value) and search paths."""
    files, bindings, paths = [], [], []
    rest = iter(argv)
    for flag in rest:
        name, equals, value = flag.partition("=")
        name = re.sub("^--?", "", name) if name.startswith("-") else ""
        known = name in ("gin_file", "gin_search_paths", "gin_bindings") or name.startswith("gin.")
        if not known:
            raise UserError(
                f"unknown flag {flag!r}: expected --gin_file=FILE, --gin.NAME=VALUE or "
                "--gin_search_paths=DIR[,DIR]"
            )
        if not equals:
            value = next(rest, None)
            if value is None:
                raise UserError(f"flag {flag} needs a value")
        if name == "gin_file":
            files.append(value)
        elif name == "gin_search_paths":
            paths += value.split(",")
        elif name == "gin_bindings":
            left, _, right = value.partition("=")
            bindings.append((left.strip(), right.strip()))
        else:
            bindings.append((name.removeprefix("gin."), value.strip()))
    return files, bindings, paths


def _as_gin_literal(value: str) -> str:
    """`value` if gin can read it, else `value` as a quoted string."""
    if value[:1] in tuple("@%[({"):
        return value
    try:
        ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return repr(value)
    return value


def _macros() -> dict[str, str]:
    """Name and value, as gin writes it, of every macro that is bound."""
    return {
        scope: repr(bound["value"])
        for (scope, selector), bound in gin.config._CONFIG.items()
        if selector == "gin.macro"
    }


def _check_name(name: str) -> None:
    if "." in name or "/" in name:
        return  # a parameter of a configurable: gin itself checks these
    macros = set(_macros())
    macros |= set(re.findall(r"%([A-Za-z_]\w*)", gin.config_str()))
    if name not in macros:
        near = difflib.get_close_matches(name, macros, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(macros))}"
        raise UserError(f"--gin.{name}: no config file has a name {name}; {hint}")


def parse(argv: list[str]) -> None:
    """Reads the gin flags in `argv` into gin's global config, replacing what was there.

    Raises:
      UserError: for a flag, file, name or value that gin cannot take.
    """
    files, bindings, paths = _split_flags(argv)
    if not files:
        raise UserError("no --gin_file given; for example --gin_file=runs/train.gin")
    gin.clear_config()
    gin.config._LOCATION_PREFIXES[:] = [""]
    for path in [*paths, _config_root()]:
        gin.add_config_file_search_path(path)
    try:
        logging.disable(logging.ERROR)  # gin logs each folder of the search path that lacks a file
        with gin.unlock_config():
            for file in files:
                gin.parse_config_file(file)
            for name, value in bindings:
                _check_name(name)
                gin.parse_config(f"{name} = {_as_gin_literal(value)}")
    except (OSError, ValueError, SyntaxError, ImportError) as error:
        raise UserError(" ".join(str(error).split())) from error
    finally:
        logging.disable(logging.NOTSET)
    missing = [name for name, value in _macros().items() if value == "%gin.REQUIRED"]
    if missing:
        raise UserError(f"no value for {', '.join(missing)}: pass --gin.{missing[0]}=VALUE")


def write_config(model_dir: str) -> None:
    """Writes all of gin's config to `<model_dir>/config.gin`: `--gin_file` takes it to run again."""
    (pathlib.Path(model_dir) / "config.gin").write_text(gin.config_str())


def run_main(argv: list[str], function) -> int:
    """Parses the gin flags, calls `function` with its bindings; the exit status of an entry point."""
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells of every file it opens
    try:
        parse(argv)
        gin.get_configurable(function)()
    except UserError as error:
        text = str(error).split("\n  In call to configurable")[0]  # gin's addition
        print(f"error: {text}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
