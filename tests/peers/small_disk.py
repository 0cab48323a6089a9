"""A disk on which files have no room, as a limit on the size of any file of this process."""

import contextlib
import resource

FULL = "no space left on the disk: free some, or choose another"


@contextlib.contextmanager
def disk_of(size):
    """Lets no file grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
