"""Making a task: `DistillationTask` with the metrics that most tasks have as defaults."""

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

from distill_jax.data.schema import Example
from distill_jax.data.sources import Source
from distill_jax.data.task import DistillationTask, MetricFn
from distill_jax.errors import UserError
from distill_jax.scoring.consistency import named_choice
from distill_jax.scoring.metrics import accuracy, rouge_l


def named_label(rationale: str, example: Example, classes: Sequence[str] = ()) -> str | None:
    """The only one of the row's choices, or of the classes, that a rationale names; else None."""
    return named_choice(rationale, example.choices or classes)


def define_task(
    name: str,
    source: Source,
    *,
    label_metric_fns: Sequence[MetricFn] = (accuracy,),
    rationale_metric_fns: Sequence[MetricFn] = (rouge_l,),
    rationale_label_fn: Callable[[str, Example], str | None] | None = None,
    classes: Sequence[str] | None = None,
    **options: Any,
) -> DistillationTask:
    """A task that is registered nowhere.

    Args:
      name: lower case, such as `svamp`.
      source: of the examples; see `data.sources`.
      label_metric_fns: of predicted labels.
      rationale_metric_fns: of predicted rationales, against the teacher's.
      rationale_label_fn: (rationale, example) -> the label that a rationale speaks for, or None; default
        `named_label`.
      classes: the labels there are, where they are few.
      **options: see `DistillationTask`.

    Raises:
      UserError: for a rate that is not above 0.
    """
    return DistillationTask(
        name=name,
        source=source,
        label_metric_fns=tuple(label_metric_fns),
        rationale_metric_fns=tuple(rationale_metric_fns),
        rationale_label_fn=rationale_label_fn or functools.partial(named_label, classes=tuple(classes or ())),
        classes=None if classes is None else tuple(classes),
        **options,
    )


def import_module(name: str) -> None:
    """Imports a module that registers tasks; a UserError when there is none."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(f"MIXTURE_OR_TASK_MODULE {name!r}: {error}") from None
