"""What all sources share: the protocol, reading lines of text, fingerprints, and texts that are checked."""

import collections
import difflib
import functools
import hashlib
import inspect
import json
import os
import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

from distill_jax import files
from distill_jax.config import DataOptions
from distill_jax.data.schema import Example
from distill_jax.errors import UserError
from distill_jax.files import unreadable

LONGEST_LINE = 1 << 26  # characters


class Source(Protocol):
    """What a task asks of a source; one that reads the folder of the data sets has a method `located` too."""

    splits: Sequence[str]

    def examples(self, split: str) -> Iterator[Example]:
        """Streams the examples of a split, in the order of the source."""

    def size(self, split: str) -> int:
        """Number of these examples, without making them where that is cheaper."""

    def fingerprint(self, split: str) -> str:
        """Changes when `examples(split)` would."""

    def where(self, split: str, number: int) -> str:
        """Names example `number` (from 0) of a split as a user finds it, `FILE, line N`."""


def located(source: Source, data_dir: str | os.PathLike | None = None, teacher: str | None = None) -> Source:
    """The source that reads this data folder and this teacher; itself, where it depends on neither.

    `data_dir` is the folder of the data sets, at first DISTILL_JAX_DATA_DIR; `teacher` the folder of the
    completions within a set, or `none`, at first DISTILL_JAX_TEACHER or `llm`; None leaves what the source has.
    """
    method = getattr(source, "located", None)
    return source if method is None else method(data_dir, teacher)


def data_folder(data_dir: str | os.PathLike | None) -> pathlib.Path:
    """The folder of the data sets: `data_dir`, or DISTILL_JAX_DATA_DIR.

    Raises:
      UserError: when neither is given, or it is no folder.
    """
    value = data_dir or os.environ.get("DISTILL_JAX_DATA_DIR")
    if not value:
        raise UserError(
            f"this task reads files: say where with {DataOptions.named('data_dir')} or DISTILL_JAX_DATA_DIR"
        )
    if not pathlib.Path(value).is_dir():
        raise UserError(f"data directory {value}: no such folder")
    return pathlib.Path(value)


def read_lines(path: pathlib.Path) -> Iterator[tuple[int, str]]:
    """Yields (number from 1, text) of each line that is not blank.

    Lines end in a line feed, a carriage return, or both; a line of white space of any script is blank. A byte
    order mark before a line, as between files that were joined, is left out.

    Raises:
      UserError: for a file that cannot be read, or is neither UTF-8 nor UTF-16 with a byte order mark, and for
        a line of more than `LONGEST_LINE` characters.
    """
    try:
        with files.open_text(path) as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), ""), 1):
                if len(line) == LONGEST_LINE:
                    raise UserError(f"{path}, line {number}: longer than {LONGEST_LINE:,} characters")
                line = line.lstrip("\ufeff")
                if line.strip():
                    yield number, line
    except files.UNREADABLE as error:
        raise unreadable(path, error) from None


def read_jsonl(path: pathlib.Path, advice: str = "") -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (line number from 1, object) of each line that is not blank; errors of JSON end with the advice.

    Raises:
      UserError: for a file that cannot be read, and for a line that is not a JSON object, or has a key twice.
    """
    twice: list[str] = []

    def row_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """An object; the outermost comes last, and leaves the keys that it has twice."""
        row = dict(pairs)
        twice[:] = () if len(row) == len(pairs) else _repeated([name for name, _ in pairs])
        return row

    for number, line in read_lines(path):
        try:
            row = json.loads(line, object_pairs_hook=row_of)
        except (ValueError, RecursionError) as error:
            # The decoder's own text counts lines of its argument, not of the file.
            what = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
            hint = "" if line.endswith("\n") else "; the file may be cut short"
            raise UserError(f"{path}, line {number}: invalid JSON ({what}){hint}{advice}") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: expected a JSON object, got {row!r:.40}")
        if twice:
            raise UserError(
                f"{path}, line {number}: the key {twice[0]!r} stands there twice: rename one of them"
            )
        yield number, row


def _repeated(names: Sequence[str]) -> list[str]:
    return [name for name, count in collections.Counter(names).items() if count > 1]


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
    if not hasattr(function, "__qualname__"):  # an object with __call__
        return f"{vars(function)} {code_of(type(function))}"
    name = f"{function.__module__}.{function.__qualname__}"
    try:
        return name + inspect.getsource(inspect.getmodule(function) or function)
    except (OSError, TypeError):  # no file: made in a console
        code = getattr(function, "__code__", None)
        return name + (f"{code.co_code.hex()} {code.co_consts}" if code else "")


def text_of(where: str, row: Mapping[str, Any], column: str, flag: str = "") -> str:
    """The non-empty text in a column; `flag` is that which names the column, if any.

    Raises:
      UserError: when it is absent, empty, no text, or half a surrogate pair, which has no UTF-8.
    """
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        got = f"got {value!r:.40}" if column in row else known_columns(row, column, flag)
        raise UserError(f"{where}: expected text in {column!r}, {got}")
    return encodable(where, value)


def known_columns(columns: Collection[str], wanted: str, flag: str = "") -> str:
    """`there are A, B`, to say beside a column that is wanted and not among them.

    With the nearest to it, and the flag to choose with, if there is one.
    """
    near = difflib.get_close_matches(wanted, columns, n=1)
    told = f"there are {', '.join(columns) or 'none'}" + (f"; did you mean {near[0]}?" if near else "")
    return told + (f"{' Choose' if near else '; choose'} with {flag}" if flag else "")


def encodable(where: str, value: str) -> str:
    """The text itself; a UserError when it has half a surrogate pair, which has no UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: text with an unpaired surrogate: {error.reason}") from None
    return value
