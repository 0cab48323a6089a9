"""ANLI's completions."""

from distill_jax.data.completions import UNPARSED, Completion, split_once


def parse_anli(text: str) -> Completion:
    """`… So the answer is contradiction.`

    The reference code drops the last character of the label whatever it is, so that a completion cut
    short before its full stop counts as wrong; here it counts as unparsed.
    """
    parts = split_once(text, "Premise:", "So the answer is")
    if not parts or len(parts[1]) < 2 or parts[1][-1].isalnum():
        return UNPARSED
    return Completion(parts[1][:-1].strip(), parts[0])
