"""SVAMP (Patel et al. 2021): word problems; the label is an equation, judged by its value.

`svamp_asdiv` has the word problems of ASDiv (Miao et al. 2020) as further training data, and SVAMP's test.
"""

import re

from distill_jax.data.completions.svamp import parse_svamp
from distill_jax.data.sources import ConcatenatedSource, HeldOutSource, ReferenceSource
from distill_jax.scoring.consistency import last_equation
from distill_jax.scoring.metrics import equation_accuracy
from distill_jax.tasks.registry import register_distillation_task


def read_row(row):
    """Row of SVAMP's release -> (input, label)."""
    return row["input"], row["label"]


def read_asdiv_row(row):
    """Row of ASDiv's release -> (input, label): the answer's number, without its unit."""
    return f"{row['Body']}\n{row['Question']}", row["Answer"].split(" ")[0]


def one_equation(text, example=None, is_target=False):
    """`(x) and (y)` -> `(y)`, for a teacher that answers two questions at once.

    The reference code evaluates a label as Python, where `x and y` has y's value (for x not 0).
    """
    del example, is_target
    return re.sub(r"\([^()]*\) and (\([^()]*\))", r"\1", text)


_SVAMP = ReferenceSource("svamp", read_row, parse_svamp)
_ASDIV = ReferenceSource("asdiv", read_asdiv_row, parse_svamp)
_BOTH = ConcatenatedSource({"train": [(_SVAMP, "train"), (_ASDIV, "train")], "test": [(_SVAMP, "test")]})

for _name, _source in (("svamp", _SVAMP), ("svamp_asdiv", _BOTH)):
    register_distillation_task(
        _name,
        HeldOutSource(_source),
        label_metric_fns=(equation_accuracy,),
        label_postprocess_fn=one_equation,
        rationale_label_fn=last_equation,
    )
