"""The subcommands of `distill-jax`, a file a group; each adds its own to the parser with `add`.

Everything heavy is imported in the functions that use it: `distill-jax --help` loads all of these files.
"""

import importlib

GROUPS = (
    "demo",
    "data",
    "annotate",
    "select",
    "train",
    "evaluate",
    "compare",
    "infer",
    "serve",
    "plan",
    "convert",
    "options",
)


def add_all(commands) -> None:
    """Adds every group's commands, in the order of `--help`."""
    for group in GROUPS:
        importlib.import_module(f"distill_jax.cli.{group}").add(commands)
