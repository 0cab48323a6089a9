"""`distill-jax options`: the page docs/options.md."""

from distill_jax.cli.common import command


@command("options", "print a table of all options, as Markdown")
def _options() -> int:
    from distill_jax.config.docs import page

    print(page(), end="")
    return 0
