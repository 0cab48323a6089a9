"""Checksums of a folder's files: written beside them, and compared before they are used.

`checksums.txt` has a line for each file, its XXH3 of 128 bits and its name, as the tool `xxhsum` writes and
reads them (https://xxhash.com); the first line, a comment, has the checksum of those below it.
"""

import hashlib
import pathlib
from collections.abc import Collection

import xxhash

from distill_jax import files

NAME = "checksums.txt"


def exist(folder: pathlib.Path) -> bool:
    """Whether the files of a folder have checksums."""
    return (folder / NAME).exists()


def write(folder: pathlib.Path, leave_out: Collection[str] = ()) -> None:
    """Writes the checksums of all files below a folder, but those of the names in `leave_out`.

    Files that have one already are not read again: their lines stay, in a file that is replaced whole. Raises
    OSError and UserError when they cannot be written.
    """
    are_more = exist(folder)
    sums = _read(folder) if are_more else {}
    for path in _files(folder):
        if path not in sums and path not in leave_out:
            sums[path] = _sum_of(folder / path)
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(sums.items()))
    text = f"# {_sum(lines)} of these lines\n{lines}"
    if are_more:
        files.write_text(folder / NAME, text)
    else:  # of a folder that does not have its name yet
        (folder / NAME).write_text(text)


def damaged(folder: pathlib.Path) -> list[str]:
    """Each file of a folder that is not what `write` has seen, `NAME (how)`; none where it has no checksums."""
    if not exist(folder):
        return []
    try:
        sums = _read(folder)
    except (OSError, ValueError) as error:
        return [f"{NAME} ({getattr(error, 'strerror', None) or 'cut or changed'})"]
    faults = {path: _fault(folder / path, digest) for path, digest in sums.items()}
    return [f"{path} ({fault})" for path, fault in faults.items() if fault]


def count(folder: pathlib.Path) -> int:
    """The number of files that have checksums in a folder that is not damaged."""
    return len(_read(folder))


def _files(folder: pathlib.Path) -> list[str]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return [name for path in paths if (name := path.relative_to(folder).as_posix()) != NAME]


def _sum(text: str) -> str:
    return xxhash.xxh3_128_hexdigest(text.encode())


def _sum_of(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def _read(folder: pathlib.Path) -> dict[str, str]:
    """The checksums by file; ValueError when they are not what was written."""
    first, _, lines = (folder / NAME).read_bytes().decode().partition("\n")
    if first != f"# {_sum(lines)} of these lines":
        raise ValueError("not the checksums that were written")
    sums = {path: digest for digest, _, path in (line.partition("  ") for line in lines.splitlines())}
    if any(files.leads_out(path) for path in sums):
        raise ValueError("names files that are not in the folder")
    return sums


def _fault(path: pathlib.Path, digest: str) -> str | None:
    """What is wrong with a file; None where it is as it was."""
    try:
        if not path.is_file():  # a pipe would be read for ever
            return "missing"
        if _sum_of(path) == digest:
            return None
        return "changed" if path.stat().st_size else "empty"
    except OSError as error:
        return error.strerror or str(error)
