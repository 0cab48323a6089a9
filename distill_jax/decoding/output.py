"""JSON lines that grow on the disk, and are continued by the next run where this one stopped."""

import contextlib
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from distill_jax import files
from distill_jax.errors import UserError, words_of


def to_json(row: Mapping[str, Any]) -> str:
    """A row as a line; what JSON does not have, such as a date of a Parquet file, as its text.

    A column may hold half a surrogate pair, which has no UTF-8: such a row is written with escapes.
    """
    line = json.dumps(row, ensure_ascii=False, default=str)
    try:
        line.encode()
    except UnicodeEncodeError:
        line = json.dumps(row, default=str)
    return line


class Output:
    """A place for rows; see `open_output`."""

    def __init__(self, write: Callable[[bytes], None], name: str, done: int = 0):
        self._write = write
        self.name = name
        self.done = done

    def rows(self) -> Iterator[Mapping[str, Any]]:
        """The rows that an earlier run has written; raises UserError for a line that is none."""
        if self.done:
            with open(self.name, "rb") as file:
                for number, line in enumerate(file, 1):
                    yield self._row(number, line)

    def _row(self, number: int, line: bytes) -> Mapping[str, Any]:
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("expected an object")
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{self.name}, line {number}: not a row that was written ({words_of(error):.200}): choose "
                "another output, or cut the file before this line"
            ) from None
        return row

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes some rows; to a file all of them or none, and they are on the disk then."""
        self._write("".join(f"{to_json(row)}\n" for row in rows).encode())
        self.done += len(rows)


def _to(file: BinaryIO) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        file.write(data)
        file.flush()

    return write


def _to_standard_output() -> Callable[[bytes], None]:
    """Writes UTF-8, whatever the locale; a notebook's standard output takes texts alone."""
    stdout = sys.stdout
    if hasattr(stdout, "buffer"):
        return _to(stdout.buffer)

    def write(data: bytes) -> None:
        stdout.write(data.decode())
        stdout.flush()

    return write


@contextlib.contextmanager
def open_output(path: str, settings: Mapping[str, Any]) -> Iterator[Output]:
    """Opens a file for rows, after those that an earlier run with the same settings has left there.

    The settings are kept beside it, in `<path>.settings.json`. A last line that was cut short is removed.

    Args:
      path: of the file; `-` is standard output. That, a pipe or a device is only written to.
      settings: all that decides what the rows are, JSON.

    Raises:
      UserError: when the file is not of this command, or of other settings, or another process writes it, or it
        cannot be written.
    """
    target = pathlib.Path(path)
    try:
        if path == "-":
            yield Output(_to_standard_output(), "standard output")
            return
        if target.exists() and not target.is_file():
            with target.open("wb") as file:
                yield Output(_to(file), path)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("ab", buffering=0) as file:

            def write(data: bytes) -> None:
                files.add(file, data)
                os.fsync(file.fileno())

            files.lock(file, path, "another process is writing this file")
            _claim(target, settings)
            done, size = _whole_rows(target)
            file.truncate(size)
            yield Output(write, path, done)
    except BrokenPipeError:
        raise
    except OSError as error:
        what = f"cannot be written ({error.strerror or error})"
        raise UserError(f"{path}: {what}: the same command goes on after its last whole row") from None


def _claim(target: pathlib.Path, settings: Mapping[str, Any]) -> None:
    beside = target.with_name(f"{target.name}.settings.json")
    if target.exists() and target.stat().st_size:
        try:
            old = json.loads(beside.read_text(encoding="utf-8"))
            if not isinstance(old, dict):
                raise ValueError("expected an object")
        except (OSError, ValueError, RecursionError):
            raise UserError(
                f"{target}: there already, and without its {beside.name}: choose another output, or delete it"
            ) from None
        new = json.loads(json.dumps(settings))
        names = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
        differing = [f"{name} was {old.get(name)!r}, now {new.get(name)!r}" for name in names]
        if differing:
            raise UserError(
                f"{target}: was begun with other settings ({'; '.join(differing)}): "
                "choose another output, or delete it"
            )
        return
    files.write_text(beside, json.dumps(settings, indent=2) + "\n")


def _whole_rows(path: pathlib.Path) -> tuple[int, int]:
    """Number of whole rows, and bytes they take."""
    rows = size = 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            rows, size = rows + 1, size + len(line)
    return rows, size
