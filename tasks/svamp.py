"""SVAMP (Patel et al. 2021): word problems; the label is an equation, judged by its value."""

from distill_jax.data.completions import parse_svamp
from distill_jax.data.registry import register_distillation_task
from distill_jax.data.sources import ReferenceSource
from distill_jax.evaluation.metrics import equation_accuracy


def read_row(row):
    """Row of the release -> (input, label)."""
    return row["input"], row["label"]


register_distillation_task(
    "svamp",
    ReferenceSource("svamp", read_row, parse_svamp),
    label_metric_fns=(equation_accuracy,),
)
