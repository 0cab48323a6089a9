"""The page of all options, docs/options.md."""

import inspect

from distill_jax.config import COMMANDS
from distill_jax.config.flags import SOURCES, has_model, help_of
from distill_jax.config.options import Options, flags_of, kinds_of, macro_of, metavar_of
from distill_jax.errors import Status

_HEAD = """# Options

Made by `distill-jax options`; change the fields in `distill_jax/config/` instead of this page.

Each option is one field of a frozen dataclass. From it come the flag of the command line, the gin macro under
T5X's name, the argument in Python, and the entry in a run's `config.json`. A flag counts more than a gin
binding, that more than a gin file, that more than `--model`, and that more than `--config`. A gin file is data:
it holds `NAME = value`, `NAME = %OTHER` and `include 'file'`, and nothing of it is executed.

Every command with options takes these too:

| flag | what |
| --- | --- |
"""
_COMPLETION = """
A shell completes commands, flags and their values by the script that `distill-jax completion` prints:

```sh
source <(distill-jax completion bash)                                      # in ~/.bashrc
eval "$(distill-jax completion zsh)"                                       # in ~/.zshrc, after compinit
distill-jax completion fish > ~/.config/fish/completions/distill-jax.fish
```
"""
_STATUSES = """
The exit status of a command:

| status | what |
| ---: | --- |
"""


def _cell(text: str) -> str:
    return text.replace("%%", "%").replace("|", "\\|")


def rows(cls: type[Options]) -> list[str]:
    """A row of the table for each option of a class."""
    lines = []
    for field in cls.options().values():
        names = flags_of(field) or (metavar_of(field),)
        flags = ", ".join(f"`{name}`" for name in names)
        if kinds_of(field.type)[0] == (bool,):
            flags += f", `--no-{names[0].removeprefix('--')}`"
        lines.append(f"| {flags} | `{macro_of(field)}` | `{field.name}` | {_cell(help_of(field))} |")
    return lines


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    parts += [f"| `{flag} {metavar}` | {text} |\n" for flag, (metavar, text) in SOURCES.items()]
    parts += [_COMPLETION, _STATUSES, *(f"| {status.value} | {status.meaning} |\n" for status in Status)]
    for command, cls in COMMANDS.items():
        parts.append(f"\n## {command}\n\n`distill_jax.config.{cls.__name__}`")
        parts.append("; takes `--model`" if has_model(cls) else "")
        parts.append(f": {inspect.getdoc(cls).splitlines()[0].lower()}.\n\n")
        parts.append("| flag | macro | in Python | what |\n| --- | --- | --- | --- |\n")
        parts.append("\n".join(rows(cls)) + "\n")
    return "".join(parts)
