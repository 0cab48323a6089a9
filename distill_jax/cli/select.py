"""`distill-jax select`: which rows to have annotated next."""

import sys

from distill_jax.cli.common import add_command, quiet, with_extra
from distill_jax.config import SelectConfig


@with_extra
def _select(config: SelectConfig) -> int:
    from distill_jax.teachers.selection import select

    quiet()
    chosen = select(config)
    if len(chosen) < config.count:
        print(f"{len(chosen)} rows only: there are no more to choose from", file=sys.stderr)
    if not config.output:
        print("\n".join(row["id"] for row in chosen))
    return 0


def add(commands) -> None:
    """Adds the command."""
    help_text = "the rows to annotate next: those a student is least sure of"
    add_command(commands, "select", help_text, _select, SelectConfig)
