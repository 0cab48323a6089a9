"""CommonsenseQA, as CoS-E v1.11 has it: five choices; the label is the text of one."""

import re

from distill_jax.data.completions import UNPARSED, Completion, split_once
from distill_jax.data.sources import HeldOutSource, ReferenceSource
from distill_jax.tasks.registry import register_distillation_task


def read_row(row):
    """Row of the release -> (input, label, choices)."""
    choices = zip("abcde", row["choices"], strict=True)
    listed = "\n".join(f"({letter}) {choice}" for letter, choice in choices)
    return f"{row['question']}\nAnswer Choices:\n{listed}", row["answer"], tuple(row["choices"])


def parse_cqa(text: str) -> Completion:
    """`… So the answer is (c) train station.`"""
    parts = split_once(text, "Q:", "So the answer is")
    choice = parts and re.match(r"[^(]*\(.\)(.*?)(?:\(.\)|$)", parts[1], re.DOTALL)
    label = choice and choice.group(1).strip().removesuffix(".")
    return Completion(label, parts[0]) if label else UNPARSED


register_distillation_task("cqa", HeldOutSource(ReferenceSource("cqa", read_row, parse_cqa)))
