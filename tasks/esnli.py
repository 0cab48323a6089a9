"""e-SNLI (Camburu et al. 2018): premise/hypothesis pairs about pictures, three classes."""

from distill_jax.data.completions import UNPARSED, Completion
from distill_jax.data.nli import CLASSES, read_row
from distill_jax.data.sources import ReferenceSource
from distill_jax.tasks.registry import register_distillation_task


def parse_esnli(text: str) -> Completion:
    """`…`, a new line, `Answer: neutral`; of several answers to the question the first."""
    rationale, found, rest = text.split("Premise:")[0].partition("Answer: ")
    label = rest.split("Answer: ")[0].split("Premise")[0].strip()
    if not found or not label or "Answer:" in rationale:
        return UNPARSED
    return Completion(label, rationale.strip())


# `esnli_small` is a part of it, in the same layout.
for _name in ("esnli", "esnli_small"):
    _source = ReferenceSource(_name, read_row, parse_esnli, has_validation=True)
    register_distillation_task(_name, _source, classes=CLASSES)
