"""SVAMP (Patel et al. 2021): word problems; the label is an equation, judged by its value."""

import re

from distill_jax.data.completions import parse_svamp
from distill_jax.data.registry import register_distillation_task
from distill_jax.data.sources import ReferenceSource
from distill_jax.evaluation.consistency import last_equation
from distill_jax.evaluation.metrics import equation_accuracy


def read_row(row):
    """Row of the release -> (input, label)."""
    return row["input"], row["label"]


def one_equation(text, example=None, is_target=False):
    """`(x) and (y)` -> `(y)`, for a teacher that answers two questions at once.

    The reference code evaluates a label as Python, where `x and y` has y's value (for x not 0).
    """
    del example, is_target
    return re.sub(r"\([^()]*\) and (\([^()]*\))", r"\1", text)


register_distillation_task(
    "svamp",
    ReferenceSource("svamp", read_row, parse_svamp),
    label_metric_fns=(equation_accuracy,),
    label_postprocess_fn=one_equation,
    rationale_label_fn=last_equation,
)
