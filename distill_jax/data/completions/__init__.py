"""What a raw completion of the teacher says: label and rationale.

In goes the text of PaLM's completion for a row of one of the paper's data sets, out comes a `Completion`; a
module here parses those of one data set, as the paper's reference code does. A teacher continues after its
answer with made-up further questions, so a completion is cut at the next `Q:` or `Premise:`. One without the
expected ending gives neither label nor rationale.
"""

from typing import NamedTuple


class Completion(NamedTuple):
    """What a completion says; both None where it cannot be parsed."""

    label: str | None
    rationale: str | None


UNPARSED = Completion(None, None)


def split_once(text: str, stop: str, ending: str) -> tuple[str, str] | None:
    """(before, after) the only `ending` in the part of `text` before `stop`; None without one."""
    parts = text.split(stop)[0].rstrip().split(ending)
    return (parts[0].strip(), parts[1].strip()) if len(parts) == 2 else None
