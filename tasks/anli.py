"""ANLI (Nie et al. 2020), rounds 1 to 3: adversarial premise/hypothesis pairs, three classes."""

from distill_jax.data.completions.anli import parse_anli
from distill_jax.data.nli import CLASSES, read_row
from distill_jax.data.sources import ReferenceSource
from distill_jax.tasks.registry import register_distillation_task

for _round in (1, 2, 3):
    register_distillation_task(
        f"anli{_round}",
        ReferenceSource(f"anli{_round}", read_row, parse_anli, has_validation=True),
        classes=CLASSES,
    )
