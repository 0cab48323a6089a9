"""Making a task: `DistillationTask` with the metrics that most tasks have as defaults."""

import functools
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from distill_jax.config.data import Folders
from distill_jax.data.schema import Example
from distill_jax.data.sources import Source
from distill_jax.data.task import DistillationTask
from distill_jax.errors import UserError, words_of
from distill_jax.scoring.consistency import named_choice
from distill_jax.scoring.metrics import accuracy, rouge_l


def named_label(rationale: str, example: Example, classes: Sequence[str] = ()) -> str | None:
    """The only one of the row's choices, or of the classes, that a rationale names; else None."""
    return named_choice(rationale, example.choices or classes)


def define_task(
    name: str, source: Source, *, classes: Sequence[str] | None = None, **options: Any
) -> DistillationTask:
    """A task that is registered nowhere.

    Args:
      name: lower case, such as `svamp`.
      source: of the examples; see `data.sources`.
      classes: the labels there are, where they are few.
      **options: see `DistillationTask`. By default labels are scored by `accuracy`, rationales by `rouge_l`,
        and the label that a rationale speaks for is its `named_label`.

    Raises:
      UserError: for a rate that is not above 0.
    """
    classes = None if classes is None else tuple(classes)
    defaults = {"label_metric_fns": (accuracy,), "rationale_metric_fns": (rouge_l,)}
    defaults["rationale_label_fn"] = functools.partial(named_label, classes=classes or ())
    return DistillationTask(name=name, source=source, classes=classes, **defaults | options)


def import_module(name: str) -> None:
    """Imports a module that registers tasks.

    Raises:
      UserError: when there is none, with the folders that were searched, or its code fails, with file and line.
    """
    given = f"{Folders.named('module')} {name!r}"
    if not all(part.isidentifier() for part in name.split(".")):
        raise UserError(f"{given}: expected a module's name, such as my_tasks")
    try:
        importlib.import_module(name)
    except UserError:
        raise
    except ModuleNotFoundError as error:
        folders = ", ".join(filter(os.path.isdir, sys.path))
        raise UserError(
            f"{given}: {error} in {folders}: name its folder in PYTHONPATH, or install it"
        ) from None
    except Exception as error:  # whatever the user's code raises
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = "" if isinstance(error, SyntaxError) else f" ({last.filename}, line {last.lineno})"
        raise UserError(f"{given}: {type(error).__name__}: {words_of(error)}{where}") from error
