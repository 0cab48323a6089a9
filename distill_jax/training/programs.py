"""Functions that make programs, remembered: a second run of the same network compiles nothing anew."""

import functools
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
KEPT = 8  # of each function; a program holds no parameters, but a large one's code takes tens of megabytes


def remembered(make: Callable[..., T]) -> Callable[..., T]:
    """`make`, which returns for the same arguments what it returned before, of its last `KEPT` calls.

    It is called anew for arguments that cannot be hashed, such as an objective of a user's own class.
    """
    kept = functools.lru_cache(KEPT, typed=True)(make)

    @functools.wraps(make)
    def call(*args, **options) -> T:
        try:
            hash((args, tuple(options.values())))
        except TypeError:
            return make(*args, **options)
        return kept(*args, **options)

    return call
