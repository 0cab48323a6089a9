"""What all sources share: the protocol, reading JSON lines, fingerprints, and texts that are checked."""

import functools
import hashlib
import inspect
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from distill_jax.data.schema import Example
from distill_jax.errors import UserError


class Source(Protocol):
    """What the registry asks of a source."""

    splits: Sequence[str]

    def examples(self, split: str) -> Iterator[Example]:
        """Streams the examples of a split, in the order of the source."""
        ...

    def size(self, split: str) -> int:
        """Number of these examples, without making them where that is cheaper."""
        ...

    def fingerprint(self, split: str) -> str:
        """Changes when `examples(split)` would."""
        ...

    def where(self, split: str, number: int) -> str:
        """Names example `number` (from 0) of a split as a user finds it, `FILE, line N`."""
        ...


def use(data_dir: str | os.PathLike | None = None, teacher_name: str | None = None) -> None:
    """Sets where files are read from in this process, for what is not None.

    Args:
      data_dir: folder of the data sets: DISTILL_JAX_DATA_DIR.
      teacher_name: folder of the completions within a set, or `none`: DISTILL_JAX_TEACHER.
    """
    if data_dir is not None:
        os.environ["DISTILL_JAX_DATA_DIR"] = str(data_dir)
    if teacher_name is not None:
        os.environ["DISTILL_JAX_TEACHER"] = teacher_name


def data_dir() -> pathlib.Path:
    """The folder of the data sets: `DISTILL_JAX_DATA_DIR`.

    Raises:
      UserError: when it is not set, or no folder.
    """
    value = os.environ.get("DISTILL_JAX_DATA_DIR")
    if not value:
        raise UserError(
            "this task reads files: say where with --data-dir DIR, --gin.DATA_DIR=DIR or DISTILL_JAX_DATA_DIR"
        )
    if not pathlib.Path(value).is_dir():
        raise UserError(f"data directory {value}: no such folder")
    return pathlib.Path(value)


def read_jsonl(path: pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (line number from 1, object) of each line that is not blank.

    Raises:
      UserError: for a missing file, and for a line that is not a JSON object.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _json_object(path, number, line)
    except (UnicodeDecodeError, OSError) as error:
        raise unreadable(path, error) from None


def count_lines(path: pathlib.Path) -> int:
    """Number of the lines that are not blank.

    Raises:
      UserError: for a file that cannot be read.
    """
    try:
        with path.open("rb") as file:
            return sum(1 for line in file if line.strip())
    except OSError as error:
        raise unreadable(path, error) from None


def _json_object(path: pathlib.Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        hint = "" if line.endswith("\n") else "; the file may be cut short"
        what = _json_problem(error)
        raise UserError(f"{path}, line {number}: invalid JSON ({what}){hint}") from None
    if not isinstance(row, dict):
        raise UserError(f"{path}, line {number}: expected a JSON object, got {row!r:.40}")
    return row


def _json_problem(error: Exception) -> str:
    """What is wrong; the decoder's own text counts lines of its argument, not of the file."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, column {error.colno}"
    return str(error)


def unreadable(path: pathlib.Path, error: Exception) -> UserError:
    """The error, in words, of a file that could not be read."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path}: no such file")
    if isinstance(error, UnicodeDecodeError):
        return UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})")
    return UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")


def fingerprint_of(*parts: str | pathlib.Path) -> str:
    """Hash of strings and of files' contents."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            digest.update(part.encode() + b"\0")
            continue
        try:
            with part.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise unreadable(part, error) from None
    return digest.hexdigest()[:16]


def code_of(function: Callable) -> str:
    """Name of a function and text of its module, so that an edit changes the fingerprint."""
    if isinstance(function, functools.partial):
        return f"{function.args} {function.keywords} {code_of(function.func)}"
    name = f"{function.__module__}.{function.__qualname__}"
    try:
        return name + inspect.getsource(inspect.getmodule(function) or function)
    except (OSError, TypeError):  # no file: made in a console
        return name + function.__code__.co_code.hex()


def text_of(where: str, row: Mapping[str, Any], column: str) -> str:
    """The non-empty text in a column.

    Raises:
      UserError: when it is absent, empty, no text, or half a surrogate pair, which has no UTF-8.
    """
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        got = f"got {value!r:.40}" if column in row else f"there are {', '.join(row) or 'none'}"
        raise UserError(f"{where}: expected text in {column!r}, {got}")
    return encodable(where, value)


def encodable(where: str, value: str) -> str:
    """The text itself.

    Raises:
      UserError: when it has half a surrogate pair, which has no UTF-8.
    """
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{where}: text with an unpaired surrogate: {error.reason}") from None
    return value
