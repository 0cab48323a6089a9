"""CommonsenseQA, as CoS-E v1.11 has it: five choices; the label is the text of one."""

from distill_jax.data.completions.cqa import parse_cqa
from distill_jax.data.sources import HeldOutSource, ReferenceSource
from distill_jax.tasks.registry import register_distillation_task


def read_row(row):
    """Row of the release -> (input, label, choices)."""
    choices = zip("abcde", row["choices"], strict=True)
    listed = "\n".join(f"({letter}) {choice}" for letter, choice in choices)
    return f"{row['question']}\nAnswer Choices:\n{listed}", row["answer"], tuple(row["choices"])


register_distillation_task("cqa", HeldOutSource(ReferenceSource("cqa", read_row, parse_cqa)))
