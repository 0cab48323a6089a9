"""Where what is prepared once is kept: records, trained vocabularies and downloads."""

import contextlib
import logging
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from distill_jax import checksums, files
from distill_jax.errors import UserError, words_of

ADVICE = "set DISTILL_JAX_CACHE to another folder"  # for `files.new_folder`
log = logging.getLogger("distill_jax")
# What file systems call the version of a file; where they say none of it, fsspec's own key stands for it.
_VERSION = {"etag", "md5", "md5hash", "crc32c", "checksum", "generation", "version", "versionid"}
_VERSION |= {"mtime", "modified", "last_modified", "lastmodified", "updated", "created"}


def cache_dir() -> pathlib.Path:
    """The folder DISTILL_JAX_CACHE, or `~/.cache/distill_jax`."""
    return pathlib.Path(os.environ.get("DISTILL_JAX_CACHE") or "~/.cache/distill_jax").expanduser()


def made(folder: pathlib.Path, make: Callable[[pathlib.Path], None], verify: bool = True) -> pathlib.Path:
    """A folder of the cache, as `make` makes it in a temporary one; it has checksums of its files.

    It is made where it is missing, and with `verify` also where its files are damaged, which a warning tells.
    Raises UserError as `files.new_folder`, and what `make` raises.
    """
    if verify and (faults := checksums.damaged(folder)):
        log.warning("warning: %s is damaged: %s: it is made anew", folder, faults[0])
        shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        with files.new_folder(folder, ADVICE) as temporary:
            make(temporary)
            checksums.write(temporary)
    return folder


@contextlib.contextmanager
def fetching(what: str) -> Iterator[None]:
    """Errors of any protocol's client on one line, in which `disk_errors` still finds a full disk."""
    try:
        yield
    except Exception as error:
        raise UserError(f"{what}: cannot be fetched: {words_of(error)}") from None


def version_of(filesystem, path: str, info: Mapping[str, Any]) -> list[str]:
    """What tells one content of a file from another, as far as the fsspec file system says it in `info`."""
    stated = [f"{name}={value}" for name, value in sorted(info.items()) if name.lower() in _VERSION]
    return [str(info.get("size")), *(stated or [str(filesystem.ukey(path))])]
