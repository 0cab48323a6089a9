"""Where what is prepared once is kept: records, trained vocabularies and downloads."""

import os
import pathlib

ADVICE = "set DISTILL_JAX_CACHE to another folder"  # for `files.new_folder`


def cache_dir() -> pathlib.Path:
    """The folder DISTILL_JAX_CACHE, or `~/.cache/distill_jax`."""
    return pathlib.Path(os.environ.get("DISTILL_JAX_CACHE") or "~/.cache/distill_jax").expanduser()
