"""A reader that is fed with hostile files, and what makes whole ones."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
      read: reads the file; a UserError is an answer, anything else that it raises is a fault.
      file: the name of the file, below a folder of its own.
      seeds: whole inputs; where there are none, what `make` writes is one.
      form: of `mutations.FORMS`: how an input is a tree of values.
      named: whether the error has to name the file: a request has none.
      make: writes what else is in the folder.
    """

    read: Callable[[pathlib.Path], Any]
    file: str
    seeds: tuple[bytes, ...] = ()
    form: str | None = None
    named: bool = True
    make: Callable[[pathlib.Path], None] | None = None

    def start(self, folder: pathlib.Path) -> tuple[bytes, ...]:
        """Makes the folder; the whole inputs."""
        if self.make is not None:
            self.make(folder)
        (folder / self.file).parent.mkdir(parents=True, exist_ok=True)
        return self.seeds or ((folder / self.file).read_bytes(),)


def lines(*rows: Mapping[str, Any]) -> bytes:
    """Rows as JSON lines."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def as_json(*values: Any) -> tuple[bytes, ...]:
    """Whole inputs of these values."""
    return tuple(json.dumps(value).encode() for value in values)
