"""Options of `completion`."""

from distill_jax.config.options import REQUIRED, Options, option


class CompletionConfig(Options):
    """The script"""

    shell: str = option(REQUIRED, "bash, zsh or fish", positional=True, choices=("bash", "zsh", "fish"))
