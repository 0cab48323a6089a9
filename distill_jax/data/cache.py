"""The cache folder: prepared records and trained vocabularies, each of them whole or not there."""

import contextlib
import errno
import os
import pathlib
import shutil
import socket
import tempfile
from collections.abc import Iterator

from distill_jax.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_OTHER = (
    errno.EACCES,
    errno.EEXIST,
    errno.EIO,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
)


def cache_dir() -> pathlib.Path:
    """Where what is prepared is kept: DISTILL_JAX_CACHE, or `~/.cache/distill_jax`."""
    return pathlib.Path(os.environ.get("DISTILL_JAX_CACHE") or "~/.cache/distill_jax").expanduser()


@contextlib.contextmanager
def new_folder(
    folder: pathlib.Path, advice: str = "set DISTILL_JAX_CACHE to another folder"
) -> Iterator[pathlib.Path]:
    """A temporary folder that becomes `folder` when the block ends, and vanishes when it fails.

    Its files are on the disk before it gets its name. Where another process was faster, its folder
    stays. What a killed process left behind is removed.

    Args:
      folder: to be made.
      advice: what the user can do where it cannot be.

    Raises:
      UserError: when the disk is full or the folder cannot be written.
    """
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        prefix = f"{folder.name}.{socket.gethostname()}.{os.getpid()}."
        temporary = pathlib.Path(tempfile.mkdtemp(".partial", prefix, folder.parent))
        temporary.chmod(0o755)
        yield temporary
        for path in (*temporary.iterdir(), temporary):
            _sync(path)
        try:
            temporary.rename(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        _sync(folder.parent)
    except OSError as error:
        if error.errno in _FULL:
            raise UserError(f"{folder.parent}: no space left on the disk: free some, or {advice}") from error
        if error.errno in _OTHER:
            raise UserError(f"{folder.parent}: cannot be written ({error.strerror}): {advice}") from error
        raise
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_leftovers(folder: pathlib.Path) -> None:
    """Removes partial folders that processes of this machine made and did not live to remove."""
    start = f"{folder.name}.{socket.gethostname()}."
    for path in folder.parent.glob("*.partial"):
        pid = path.name.removeprefix(start).split(".")[0]
        if path.name.startswith(start) and pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
