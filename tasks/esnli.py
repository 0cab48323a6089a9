"""e-SNLI (Camburu et al. 2018): premise/hypothesis pairs about pictures, three classes."""

from distill_jax.data.completions.esnli import parse_esnli
from distill_jax.data.nli import CLASSES, read_row
from distill_jax.data.sources import ReferenceSource
from distill_jax.tasks.registry import register_distillation_task

# `esnli_small` is a part of it, in the same layout.
for _name in ("esnli", "esnli_small"):
    _source = ReferenceSource(_name, read_row, parse_esnli, has_validation=True)
    register_distillation_task(_name, _source, classes=CLASSES)
