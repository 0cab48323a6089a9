"""How the commands and the experiments print tables."""

from typing import Any

from rich.console import Console


def console(**options: Any) -> Console:
    """A console that shows texts as they are: `[/yes]` in a label or a path is no tag, and `:x:` no emoji."""
    return Console(markup=False, emoji=False, **options)
