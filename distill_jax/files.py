"""Files and folders that appear whole or not at all: written under a temporary name, synced, renamed.

A full or read-only disk is one line for the user, whichever library finds it so.
"""

import codecs
import contextlib
import errno
import fcntl
import gzip
import io
import itertools
import json
import logging
import os
import pathlib
import shutil
import socket
import zlib
from collections.abc import Iterator
from typing import IO, Any

from distill_jax.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = "EACCES EEXIST EIO EISDIR ELOOP ENAMETOOLONG ENOTDIR EPERM EROFS".split()
# Libraries that write by themselves (TensorStore, Arrow) raise errors of their own with the system's words.
_WORDS = {os.strerror(number): number for number in (*FULL, errno.EROFS)}
_PARTIAL = ".partial"
_LFS = b"version https://git-lfs.github.com/spec/"
_GZIP = b"\x1f\x8b"
UNREADABLE = (OSError, UnicodeError, EOFError, zlib.error)  # of a text file, see `open_text`
MOST_TEXT = 1 << 28  # characters of a file that is held whole: a few kB of gzip can stand for many GB
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
log = logging.getLogger("distill_jax")
_numbers = itertools.count()  # tells the threads of a process apart


@contextlib.contextmanager
def disk_errors(path: str | os.PathLike, advice: str = "choose another place") -> Iterator[None]:
    """Turns errors of writing the file or folder `path` into one line; errors of reading other files pass.

    The advice is what the user can do beside making room. Raises UserError when the disk is full, read-only or
    broken, or the path may not be written.
    """
    try:
        yield
    except Exception as error:
        number = _errno(error, pathlib.Path(path))
        if number in FULL:
            raise UserError(f"{path}: no space left on the disk: free some, or {advice}") from error
        if errno.errorcode.get(number) in _REFUSED:
            raise UserError(f"{path}: cannot be written ({os.strerror(number)}): {advice}") from error
        raise


def words_of_disk(error: OSError) -> str | None:
    """What is wrong with a disk, a folder or a path, on one line; None for any other error of the system."""
    if error.errno in FULL:
        return f"{error.filename or 'the output'}: no space left on the disk: free some"
    if error.filename is not None and errno.errorcode.get(error.errno) in _REFUSED:
        return f"{error.filename}: cannot be read or written ({error.strerror}): choose another place"
    return None


def _errno(error: Exception, path: pathlib.Path) -> int | None:
    """The system's number of an error of writing `path`; None for an error of anything else."""
    if not isinstance(error, OSError) or error.errno is None:
        return next((number for words, number in _WORDS.items() if words in str(error)), None)
    if not isinstance(error.filename, str | os.PathLike):  # found while writing, or of an open descriptor
        return error.errno
    place, named = path.absolute().parent, pathlib.Path(error.filename).absolute()
    return error.errno if named.is_relative_to(place) or place.is_relative_to(named) else None


@contextlib.contextmanager
def atomic_write(
    path: str | os.PathLike, *, binary: bool = False, advice: str = "choose another place"
) -> Iterator[IO]:
    """An open file that becomes `path` when the block ends, and vanishes when it fails.

    It is of UTF-8 text unless `binary`. A file that exists is replaced; folders above it are made. A link is
    followed; a device or a pipe is written as it is. Raises UserError, with the advice, as `disk_errors`.
    """
    mode = {"mode": "wb"} if binary else {"mode": "w", "encoding": "utf-8"}
    target = pathlib.Path(path).resolve()
    with disk_errors(path, advice):
        if target.exists() and not target.is_file() and not target.is_dir():
            with target.open(**mode) as file:
                yield file
            return
        temporary = _temporary(target)
        try:
            with temporary.open(**mode) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
            _sync(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


def open_text(path: str | os.PathLike, newline: str | None = None) -> IO[str]:
    """Opens a text to read: UTF-8, or UTF-16 where it begins with its byte order mark, which is left out.

    What gzip has compressed is decompressed. Raises OSError without the file, and when it is read one of
    `UNREADABLE` for other bytes, or what was compressed and is cut short or damaged.
    """
    file: Any = open(path, "rb")
    try:
        if file.peek(2)[:2] == _GZIP:  # peeked at: a pipe is read only once
            file.close()
            file = gzip.open(path)
        utf_16 = file.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    except (OSError, EOFError):
        file.close()
        raise
    return io.TextIOWrapper(file, "utf-16" if utf_16 else "utf-8-sig", newline=newline)


def read_text(path: str | os.PathLike) -> str:
    """A whole text file; see `open_text`.

    Raises UserError when it cannot be read, is no such text, or has more than `MOST_TEXT` characters.
    """
    try:
        with open_text(path) as file:
            text = file.read(MOST_TEXT + 1)
    except UNREADABLE as error:
        raise unreadable(path, error) from None
    if len(text) > MOST_TEXT:
        raise UserError(f"{path}: more than {MOST_TEXT:,} characters of text")
    return text


def read_json(path: str | os.PathLike, what: str = "JSON") -> Any:
    """The value of a JSON file, of texts that UTF-8 can have.

    Raises UserError when it cannot be read, or is not `what`.
    """
    text = read_text(path)
    try:
        value = json.loads(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError as error:
        half = error.object[error.start : error.end].encode("ascii", "backslashreplace").decode()
        raise UserError(f"{path}: not {what}: {half:.12}, half a surrogate pair, which has no UTF-8") from None
    except ValueError as error:
        raise UserError(f"{path}: not {what}: {error}") from None
    except RecursionError:
        raise UserError(f"{path}: not {what}: nested too deeply") from None


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a whole UTF-8 file; see `atomic_write`."""
    with atomic_write(path) as file:
        file.write(text)


def json_lines(path: str | os.PathLike, needs: str) -> tuple[list[dict[str, Any]], list[int]]:
    """The objects of a file of JSON lines, and the numbers of the lines that are none: cut short or damaged.

    An object has to have a whole number under `needs`. Raises UserError when the file cannot be read.
    """
    rows, bad = [], []
    try:
        lines = pathlib.Path(path).read_bytes().splitlines()
    except OSError as error:
        raise unreadable(path, error) from None
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line.decode())
            is_row = isinstance(row, dict) and isinstance(row.get(needs), int)
        except (ValueError, RecursionError):
            is_row = False
        if is_row:
            rows.append(row)
        else:
            bad.append(number)
    return rows, bad


def lock(file: int | IO, path: str | os.PathLike, refusal: str) -> None:
    """Takes the lock of an open file, until it is closed or the process ends.

    Where the file system has no locks, a warning says so. Raises UserError, `path` and the refusal, when
    another process has it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{path}: {refusal}") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        log.warning("warning: %s: no locks (flock) on this file system: let no other process write there", path)


def append_line(path: str | os.PathLike, line: str) -> None:
    """Adds a line to a UTF-8 file, whole or not at all; a line before it that was cut short is ended first.

    Raises UserError as `disk_errors`.
    """
    with disk_errors(path), open(path, "ab+", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        add(file, line.encode() + b"\n" if file.read(1) in (b"", b"\n") else b"\n" + line.encode() + b"\n")


def add(file: io.FileIO, data: bytes) -> None:
    """Adds data to a file that is open for appending, without a buffer: all of it, or nothing when it fails.

    Raises OSError.
    """
    size = file.seek(0, os.SEEK_END)
    try:
        while data:
            data = data[file.write(data) :]
    except OSError:
        file.truncate(size)
        raise


def unreadable(path: str | os.PathLike, error: Exception) -> UserError:
    """The error, in words, of a file that could not be read."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path}: no such file")
    if isinstance(error, UnicodeDecodeError):
        return UserError(f"{path}: not {error.encoding.upper()} text ({error.reason} at byte {error.start})")
    return UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")


def leads_out(name: str) -> bool:
    """Whether a relative path, as a file gives it, is none below the folder that the file is in."""
    path = pathlib.PurePath(name)
    return not name or path.is_absolute() or ".." in path.parts


def refuse_existing(path: str | os.PathLike, advice: str) -> None:
    """Raises a UserError, with the advice, where something is at the path that a folder is to be written to."""
    if os.path.lexists(path):
        raise UserError(f"{path}: is there already: {advice}, or remove it")


def require_file(path: str | os.PathLike, option: str) -> None:
    """Raises a UserError, which names the option, where there is no such file; a pipe or a device is one."""
    if not os.path.exists(path):
        raise UserError(f"{option} {path}: no such file")
    if os.path.isdir(path):
        raise UserError(f"{option} {path}: a folder: expected a file")


def refuse_lfs_pointer(path: str | os.PathLike) -> None:
    """Raises a UserError when a file is what Git leaves in place of a large one; OSError without the file."""
    with open(path, "rb") as file:
        if file.read(len(_LFS)) == _LFS:
            raise UserError(
                f"{path}: a Git LFS pointer, not the file itself: run git lfs pull there, or download the file"
            )


@contextlib.contextmanager
def new_folder(folder: str | os.PathLike, advice: str = "choose another place") -> Iterator[pathlib.Path]:
    """A temporary folder, absolute, that becomes `folder` when the block ends, and vanishes when it fails.

    All files in it are on the disk before it gets its name. Where another process was faster, its folder stays.
    Folders above it are made. Raises UserError, with the advice, as `disk_errors`.
    """
    target = pathlib.Path(folder).absolute()
    with disk_errors(folder, advice):
        temporary = _temporary(target)
        try:
            temporary.mkdir()
            yield temporary
            for place, _, names in os.walk(temporary, topdown=False):
                for name in names:
                    _sync(pathlib.Path(place, name))
                _sync(pathlib.Path(place))
            try:
                temporary.rename(target)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            _sync(target.parent)
        except UserError as error:  # of a file in it
            raise UserError(str(error).replace(str(temporary), str(folder))) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(target: pathlib.Path) -> pathlib.Path:
    """A name beside `target` that says which process makes it; removes what killed processes left there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    start = f"{target.name}.{socket.gethostname()}."
    for path in target.parent.glob(f"*{_PARTIAL}"):
        pid = path.name.removeprefix(start).split(".")[0]
        if path.name.startswith(start) and pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return target.with_name(f"{start}{os.getpid()}.{next(_numbers)}{_PARTIAL}")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True
