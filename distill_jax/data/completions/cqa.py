"""CommonsenseQA's completions."""

import re

from distill_jax.data.completions import UNPARSED, Completion, split_once


def parse_cqa(text: str) -> Completion:
    """`… So the answer is (c) train station.`"""
    parts = split_once(text, "Q:", "So the answer is")
    choice = parts and re.match(r"[^(]*\(.\)(.*?)(?:\(.\)|$)", parts[1], re.DOTALL)
    label = choice and choice.group(1).strip().removesuffix(".")
    return Completion(label, parts[0]) if label else UNPARSED
