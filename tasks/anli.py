"""ANLI (Nie et al. 2020), rounds 1 to 3: adversarial premise/hypothesis pairs, three classes."""

from distill_jax.data.completions import UNPARSED, Completion, split_once
from distill_jax.data.nli import CLASSES, read_row
from distill_jax.data.sources import ReferenceSource
from distill_jax.tasks.registry import register_distillation_task


def parse_anli(text: str) -> Completion:
    """`… So the answer is contradiction.`

    The reference code drops the last character of the label whatever it is, so that a completion cut
    short before its full stop counts as wrong; here it counts as unparsed.
    """
    parts = split_once(text, "Premise:", "So the answer is")
    if not parts or len(parts[1]) < 2 or parts[1][-1].isalnum():
        return UNPARSED
    return Completion(parts[1][:-1].strip(), parts[0])


for _round in (1, 2, 3):
    register_distillation_task(
        f"anli{_round}",
        ReferenceSource(f"anli{_round}", read_row, parse_anli, has_validation=True),
        classes=CLASSES,
    )
