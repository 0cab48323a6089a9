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
    """`… So the answer is contradiction.`

    The reference code drops the last character of the label whatever it is, so that a completion cut
    short before its full stop counts as wrong; here it counts as unparsed.
    """
    parts = _split_once(text, "Premise:", "So the answer is")
    if not parts or len(parts[1]) < 2 or parts[1][-1].isalnum():
        return UNPARSED
    return Completion(parts[1][:-1].strip(), parts[0])


def parse_esnli(text: str) -> Completion:
    """`…`, a new line, `Answer: neutral`; of several answers to the question the first."""
    rationale, found, rest = text.split("Premise:")[0].partition("Answer: ")
    label = rest.split("Answer: ")[0].split("Premise")[0].strip()
    if not found or not label or "Answer:" in rationale:
        return UNPARSED
    return Completion(label, rationale.strip())
