"""Every command that README, the docs and the launch files give is one that the command line reads."""

import importlib.util
import pathlib
import re
import shlex

import pytest

from distill_jax.cli import main
from distill_jax.config.flags import configuration
from distill_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").glob("*/*.md"))]
PAGES += sorted((ROOT / "launch").glob("*"))
DOORS = {f"distill_jax.{name}": name for name in ("train", "eval", "infer")}
COMMAND = re.compile(r"(?:distill-jax [a-z]|python -m (?:distill_jax|benchmarks)\.)")


def commands() -> list[tuple[str, str]]:
    """(page, command) of every command in a code block or between backticks."""
    found = []
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        blocks = re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL) if page.suffix == ".md" else [text]
        lines = [line for block in blocks for line in block.splitlines()]
        lines += re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        parts = [part.strip() for line in lines for part in line.split(" | ")]
        found += [(page.name, part) for part in dict.fromkeys(parts) if COMMAND.match(part)]
    return found


def words(command: str) -> list[str]:
    """The words of a command, without what stands for the reader's own words: `…`, `$VARIABLE`, `{a,b}`."""
    parts = shlex.split(re.split(r" >>? ", command)[0], comments=True)
    kept = [
        word for i, word in enumerate(parts) if not re.match(r"(?:…|\$\w+)$", word) or parts[i - 1][0] == "-"
    ]
    return [re.sub(r"^\{([\w-]+),.*\}$", r"\1", word) for word in kept]


@pytest.mark.parametrize("page, command", commands())
def test_a_command_of_the_docs_is_read(page, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, *rest = words(command)
    if first == "python" and rest[1] not in DOORS:
        source = pathlib.Path(importlib.util.find_spec(rest[1]).origin)
        text = "".join(path.read_text() for path in source.parent.glob("*.py"))
        for flag in (word.partition("=")[0] for word in rest if word.startswith("--")):
            assert f'"{flag}"' in text or f"{flag[2:].replace('-', '_')}:" in text, f"{page}: {flag}"
        return
    arguments = [DOORS[rest[1]], *rest[2:]] if first == "python" else rest
    args = main.parser().parse_args(arguments)  # exits with status 2 for a flag or word that it does not know
    try:
        if args.options:
            configuration(args)
    except UserError as error:  # a command that is only mentioned names no values, or a run of the reader
        absent = {f"{word}: no such file" for word in rest}
        assert str(error).startswith("no value for") or str(error) in absent, error


def test_the_manuals_front_page_links_what_the_map_of_readme_does():
    linked = [
        set(re.findall(pattern, (ROOT / page).read_text()))
        for page, pattern in (("README.md", r"\]\(docs/(\w+\.md)"), ("docs/index.md", r"\]\((\w+\.md)"))
    ]
    assert len(linked[0]) > 20 and linked[0] - linked[1] <= {"demo.md", "esnli.md", "benchmarks.md"}
