"""SVAMP's completions, and ASDiv's."""

from distill_jax.data.completions import UNPARSED, Completion, split_once


def parse_svamp(text: str) -> Completion:
    """`… The answer is (84 / 2).`"""
    parts = split_once(text, "Q:", "The answer is")
    for line in parts[1].split("\n") if parts else ():
        start, end = line.find("("), line.rfind(")")
        if 0 <= start < end:
            return Completion(line[start : end + 1], parts[0])
    return UNPARSED
