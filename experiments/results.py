"""The figures of an experiment as a file, and the page of the docs that is made from them."""

import argparse
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from distill_jax import files

FOLDER = pathlib.Path("experiments/results")


def add_flags(parser: argparse.ArgumentParser, name: str) -> None:
    """Adds `--results`, `--output` and `--page-only` for the experiment of a name."""
    parser.add_argument("--results", default=str(FOLDER / f"{name}.json"), help="file of the figures")
    parser.add_argument("--output", default=f"docs/{name}.md", help="page that is made from them")
    parser.add_argument("--page-only", action="store_true", help="run nothing: make the page of --results anew")


def write(path: pathlib.Path, figures: Mapping[str, Any]) -> None:
    """Writes figures as JSON; folders above are made. Raises ValueError for a number that is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, json.dumps(figures, indent=2, allow_nan=False) + "\n")


def replace_part(path: pathlib.Path, marks: tuple[str, str], text: str) -> None:
    """Puts a text between two marks of a file, in the place of what is there."""
    before, rest = path.read_text(encoding="utf-8").split(marks[0])
    after = rest.partition(marks[1])[2]
    path.write_text(before + marks[0] + text + marks[1] + after, encoding="utf-8")


def deliver(
    args: argparse.Namespace, run: Callable[[], Mapping[str, Any]], page: Callable[[Mapping[str, Any]], str]
) -> None:
    """Runs the experiment, or reads its figures with `--page-only`; writes the page, and prints it."""
    results, output = pathlib.Path(args.results), pathlib.Path(args.output)
    if args.page_only and not results.exists():
        raise SystemExit(f"error: --page-only: no figures in {results}")
    if not args.page_only:
        write(results, run())
    text = page(json.loads(results.read_text(encoding="utf-8")))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    print(text)
