"""`distill-jax options`: the page docs/options.md."""

from distill_jax.cli.common import add_command


def _options() -> int:
    from distill_jax.config.docs import page

    print(page(), end="")
    return 0


def add(commands) -> None:
    """Adds the command."""
    add_command(commands, "options", "print a table of all options, as Markdown", _options)
