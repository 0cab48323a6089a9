"""Parsers of raw teacher completions: label and rationale, as the paper's reference code has them.

A teacher goes on after its answer with made-up further questions, so a completion is cut at the
next `Q:` or `Premise:`. One without the expected ending gives neither label nor rationale.
"""

import re
from typing import NamedTuple


class Completion(NamedTuple):
    """What a completion says; both None where it cannot be parsed."""

    label: str | None
    rationale: str | None


UNPARSED = Completion(None, None)


def _split_once(text: str, stop: str, ending: str) -> tuple[str, str] | None:
    """(before, after) the only `ending` in the part of `text` before `stop`; None without one."""
    parts = text.split(stop)[0].rstrip().split(ending)
    return (parts[0].strip(), parts[1].strip()) if len(parts) == 2 else None


def parse_svamp(text: str) -> Completion:
    """`… The answer is (84 / 2).`"""
    parts = _split_once(text, "Q:", "The answer is")
    equation = parts and re.search(r"\(.*\)", parts[1])
    return Completion(equation.group(0), parts[0]) if equation else UNPARSED


def parse_cqa(text: str) -> Completion:
    """`… So the answer is (c) train station.`"""
    parts = _split_once(text, "Q:", "So the answer is")
    choice = parts and re.match(r"[^(]*\(.\)(.*?)(?:\(.\)|$)", parts[1], re.DOTALL)
    label = choice and choice.group(1).strip().removesuffix(".")
    return Completion(label, parts[0]) if label else UNPARSED


def parse_anli(text: str) -> Completion:
    """`… So the answer is contradiction.`"""
    parts = _split_once(text, "Premise:", "So the answer is")
    label = parts and parts[1].removesuffix(".")
    return Completion(label, parts[0]) if label else UNPARSED


def parse_esnli(text: str) -> Completion:
    """`…`, a new line, `Answer: neutral`."""
    parts = _split_once(text, "Premise:", "Answer:")
    return Completion(parts[1], parts[0]) if parts and parts[1] else UNPARSED
