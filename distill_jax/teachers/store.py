"""The store of completions: append-only JSON lines, synced to the disk before they count.

The lines are the data. Beside `completions.jsonl`, the SQLite index `completions.jsonl.index` has the place of
each key, so that memory does not grow with the store. It is rebuilt from the lines when it is missing, behind,
or that of another file.
"""

import asyncio
import dataclasses
import errno
import functools
import hashlib
import json
import logging
import os
import pathlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distill_jax import files
from distill_jax.errors import UserError
from distill_jax.teachers.limits import Spent
from distill_jax.teachers.messages import Sampling

logger = logging.getLogger(__name__)
_COMMIT_EVERY = 1000  # lines between commits of the index: what is indexed again after a kill
_SCHEMA = """
CREATE TABLE IF NOT EXISTS completions (
  row BLOB, setting BLOB, sample INTEGER, offset INTEGER, length INTEGER,
  PRIMARY KEY (row, setting, sample)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
"""


@dataclasses.dataclass(frozen=True)
class Key:
    """Identifies a completion, together with the number of its sample."""

    row_id: str
    prompt: str
    model: str
    sampling: Sampling | Mapping[str, Any]

    @functools.cached_property
    def row(self) -> bytes:
        """Digest of the row's id."""
        return _digest(self.row_id)

    @functools.cached_property
    def setting(self) -> bytes:
        """Digest of the prompt, model and sampling."""
        stored = self.sampling.stored() if isinstance(self.sampling, Sampling) else self.sampling
        return _digest(json.dumps([self.prompt, self.model, stored], sort_keys=True))


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=12).digest()


_Encoded = list[tuple[bytes, Mapping[str, Any]]]


class Store:
    """The file and its index; one process at a time. A context manager. A `readonly` store must exist.

    Raises:
      UserError: when another process has it open, for a line that is no completion, and when it cannot be
        written.
    """

    def __init__(self, path: str | os.PathLike, readonly: bool = False):
        self.path = pathlib.Path(path)
        if readonly and not self.path.is_file():
            raise UserError(f"{self.path}: no such file: expected a store of completions")
        with files.disk_errors(self.path, "choose another --store"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._lock()
            self._size = os.fstat(self._file).st_size
            self._index = self._open_index()
            self._catch_up()
        except BaseException:
            os.close(self._file)
            raise
        self._waiting: _Encoded = []
        self._written: asyncio.Future | None = None  # when the waiting lines are
        self._writer: asyncio.Task | None = None

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Commits the index and closes the file."""
        try:
            self._commit()
        finally:
            self._index.close()
            os.close(self._file)

    def _lock(self) -> None:
        refusal = "another process is using this store: wait for it, or choose another --store"
        files.lock(self._file, self.path, refusal)
        _sync_folder(self.path.parent)

    # The index.

    def _open_index(self) -> sqlite3.Connection:
        path = self.path.with_name(f"{self.path.name}.index")
        for fresh in (False, True):
            try:
                if fresh:
                    for name in ("", "-journal"):
                        path.with_name(path.name + name).unlink(missing_ok=True)
                index = sqlite3.connect(path, isolation_level=None)
                index.execute("PRAGMA synchronous = OFF")  # a lost index is rebuilt
                index.executescript(_SCHEMA)
                if fresh or self._matches(index):
                    index.execute("BEGIN")
                    return index
                index.close()
            except (sqlite3.DatabaseError, OSError) as error:
                if fresh:
                    raise self._no_index(error) from None
        raise AssertionError("unreachable")

    def _no_index(self, error: Exception) -> UserError:
        return UserError(
            f"{self.path}.index: cannot be written ({error}): free some space or choose another --store; the "
            "completions themselves are safe"
        )

    def _matches(self, index: sqlite3.Connection) -> bool:
        """Whether the index belongs to this file: the last line it knows is where it says."""
        state = dict(index.execute("SELECT name, value FROM state"))
        if not state:
            return True
        try:
            start, end = state["last"], state["end"]
            if not 0 <= start < end <= self._size:
                return False
            last = index.execute("SELECT row FROM completions WHERE offset = ?", (start,)).fetchone()
            line = os.pread(self._file, end - start, start)
            return last is not None and line.endswith(b"\n") and _digest(json.loads(line)["id"]) == last[0]
        except (ValueError, KeyError, TypeError):
            return False

    def _catch_up(self) -> None:
        """Indexes the lines that the index lacks; cuts off a last one that a kill left unfinished."""
        state = dict(self._index.execute("SELECT name, value FROM state"))
        self._totals = Spent(state.get("requests", 0), state.get("tokens", 0), state.get("usd", 0.0))
        self.rows = state.get("rows", 0)  # completions in the store
        self._end, self._last = state.get("end", 0), state.get("last", 0)
        self._uncommitted = 0
        number = self.rows
        for offset, raw in self._lines(self._end):
            if not raw.endswith(b"\n"):
                logger.warning("%s: dropped an unfinished last line of %d bytes", self.path, len(raw))
                os.ftruncate(self._file, offset)
                os.fsync(self._file)
                self._size = offset
                break
            number += 1
            try:
                self._add(json.loads(raw), offset, len(raw))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                raise UserError(
                    f"{self.path}, line {number}: not a completion of this store: repair or remove the line"
                ) from None
        self._commit()

    def _lines(self, start: int) -> Iterator[tuple[int, bytes]]:
        with open(self.path, "rb") as file:
            file.seek(start)
            for raw in file:
                yield start, raw
                start += len(raw)

    def _add(self, line: Mapping[str, Any], offset: int, length: int) -> None:
        key = Key(line["id"], line["prompt"], line["model"], line["sampling"])
        try:
            self._index.execute(
                "INSERT OR IGNORE INTO completions VALUES (?, ?, ?, ?, ?)",
                (key.row, key.setting, int(line["sample"]), offset, length),
            )
        except sqlite3.DatabaseError as error:
            raise self._no_index(error) from None
        self._last, self._end = offset, offset + length
        self.rows += 1
        self._totals = self._totals.plus(used(line))
        self._uncommitted += 1
        if self._uncommitted >= _COMMIT_EVERY:
            self._commit()

    def _commit(self) -> None:
        if not self._uncommitted:
            return
        state = self._totals._asdict() | {"rows": self.rows, "last": self._last, "end": self._end}
        try:
            self._index.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", state.items())
            self._index.execute("COMMIT")
            self._index.execute("BEGIN")
        except sqlite3.DatabaseError as error:
            raise self._no_index(error) from None
        self._uncommitted = 0

    # Reading.

    @property
    def spent(self) -> Spent:
        """The cost of all completions in the store."""
        return self._totals

    def missing(self, key: Key, samples: int) -> list[int]:
        """The sample numbers below `samples` that have no completion."""
        listed = self._index.execute(
            "SELECT sample FROM completions WHERE row = ? AND setting = ?", (key.row, key.setting)
        )
        present = {number for (number,) in listed}
        return [number for number in range(samples) if number not in present]

    def read(self, row_id: str, setting: bytes | None = None) -> list[dict[str, Any]]:
        """The completions of a row, by setting and sample number; of one setting where it is given."""
        places = self._index.execute(
            "SELECT setting, offset, length FROM completions WHERE row = ?", (_digest(row_id),)
        ).fetchall()
        return [
            json.loads(os.pread(self._file, length, offset))
            for its_setting, offset, length in places
            if setting in (None, its_setting)
        ]

    # Writing.

    async def append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Appends completions, which are on the disk when it returns; concurrent callers share one sync.

        Raises:
          UserError: when they cannot be written; those that were not are not in the store.
        """
        self._waiting += [(_encode(line), line) for line in lines]
        if self._written is None:
            self._written = asyncio.get_running_loop().create_future()
        mine = self._written
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_waiting())
        await asyncio.shield(mine)

    async def _write_waiting(self) -> None:
        while self._waiting:
            encoded, written = self._waiting, self._written
            self._waiting, self._written = [], None
            try:
                await asyncio.to_thread(self._write, [raw for raw, _ in encoded])
                self._register(encoded)
            except Exception as error:
                written.set_exception(error)
            else:
                written.set_result(None)

    def append_now(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """As `append`, for callers without an event loop."""
        encoded = [(_encode(line), line) for line in lines]
        self._write([raw for raw, _ in encoded])
        self._register(encoded)

    def _register(self, encoded: _Encoded) -> None:
        for raw, line in encoded:
            self._add(line, self._size, len(raw))
            self._size += len(raw)

    def _write(self, lines: Sequence[bytes]) -> None:
        data, done = b"".join(lines), 0
        try:
            while done < len(data):
                done += os.write(self._file, data[done:])
            os.fsync(self._file)
        except OSError as error:
            # Whole lines stay, because they are paid for; the index adds them when it is opened next.
            self._size += data.rfind(b"\n", 0, done) + 1
            os.ftruncate(self._file, self._size)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            what = "no space left on the disk: free some" if full else f"cannot be written ({error.strerror})"
            raise UserError(f"{self.path}: {what}, then run the same command again") from None


def _encode(line: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(line, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair
        return json.dumps(line).encode() + b"\n"


def used(line: Mapping[str, Any]) -> Spent:
    """What a completion cost; the cost of a request is with its first sample. See `records.paid`."""
    usage = line.get("usage") or {}
    tokens = usage.get("at_most") or (usage.get("prompt_tokens") or 0) + (usage.get("completion_tokens") or 0)
    spent = Spent(line.get("requests", 0), tokens, line.get("usd") or 0.0)
    if not all(0 <= part < 1 << 53 for part in spent):
        raise ValueError(f"no request costs {spent}")
    return spent


def _sync_folder(folder: pathlib.Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
