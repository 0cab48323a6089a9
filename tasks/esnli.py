"""e-SNLI (Camburu et al. 2018): premise/hypothesis pairs about pictures, three classes."""

from distill_jax.tasks.registry import register_distillation_task

from distill_jax.data.completions import parse_esnli
from distill_jax.data.nli import CLASSES, read_row
from distill_jax.data.sources import ReferenceSource

register_distillation_task(
    "esnli", ReferenceSource("esnli", read_row, parse_esnli, has_validation=True), classes=CLASSES
)
