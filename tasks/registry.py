"""The registry of tasks: one call registers a task for our engine and for SeqIO.

Our engine reads prepared records and must not load TensorFlow, so it imports task modules inside
`without_seqio()`. Everybody else, T5X's launcher included, gets the SeqIO tasks by importing the
module; a process that has done the one and wants the other calls `seqio_tasks.register`.
"""

import contextlib
import contextvars
import dataclasses
import difflib
import functools
import importlib
import importlib.util
import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from distill_jax import tasks
from distill_jax.data import views
from distill_jax.data.schema import Example
from distill_jax.data.sources import Source
from distill_jax.data.views import View
from distill_jax.errors import UserError
from distill_jax.scoring.consistency import named_choice
from distill_jax.scoring.metrics import accuracy, is_same_text, rouge_l

MetricFn = Callable[[Sequence[Any], Sequence[Any]], dict[str, float]]
LABEL_SOURCES = {"gold": "label", "teacher": "teacher_label"}
METHODS = (*views.METHODS, "label", "rationale")

_with_seqio = contextvars.ContextVar("with_seqio", default=True)
_tasks: dict[str, "DistillationTask"] = {}


@dataclasses.dataclass(frozen=True)
class DistillationTask:
    """A task and how it is scored.

    Metric functions take (targets, predictions) and postprocess functions (text, example=None,
    is_target=False), both as in SeqIO, and both serve SeqIO and our engine alike. `main_metric` names the
    label metric that the best checkpoint and the right rows are told by; see `main_name` for its default.
    """

    name: str
    source: Source
    label_metric_fns: tuple[MetricFn, ...]
    rationale_metric_fns: tuple[MetricFn, ...]
    label_postprocess_fn: Callable[..., Any] | None
    label_prefix: str
    rationale_prefix: str
    classes: tuple[str, ...] | None
    rationale_rate: float = 1.0
    rationale_label_fn: Callable[[str, Example], str | None] | None = None
    main_metric: str | None = None

    def score_labels(self, examples: Sequence[Example], predictions: Sequence[str | None]) -> dict[str, float]:
        """The label metrics of predictions, on the examples that have a reference label; {} without any."""
        process = self.label_postprocess_fn or (lambda text, example, is_target: text)
        pairs = [
            (process(e.label, example=None, is_target=True), p)
            for e, p in zip(examples, predictions, strict=True)
            if e.label is not None
        ]
        if not pairs:
            return {}
        targets = [target for target, _ in pairs]
        answers = [None if p is None else process(p, example=None, is_target=False) for _, p in pairs]
        scores: dict[str, float] = {}
        for metric_fn in self.label_metric_fns:
            scores |= metric_fn(targets, answers)
        return scores

    def rationale_label(self, rationale: str, example: Example) -> str | None:
        """The label that a rationale speaks for; None where it speaks for none."""
        if self.rationale_label_fn is not None:
            return self.rationale_label_fn(rationale, example)
        return named_choice(rationale, example.choices or self.classes or ())

    def main_name(self, scores: Mapping[str, float]) -> str | None:
        """The main one of some label metrics: `main_metric`, else `accuracy`, else the first; None of none.

        Raises:
          UserError: when the metric functions give no metric of the name `main_metric`.
        """
        if self.main_metric is None:
            return "accuracy" if "accuracy" in scores else next(iter(scores), None)
        if scores and self.main_metric not in scores:
            raise UserError(
                f"task {self.name}: main_metric {self.main_metric!r} is none of its metrics {', '.join(scores)}"
            )
        return self.main_metric if scores else None

    def main_score(self, examples: Sequence[Example], predictions: Sequence[str | None]) -> float | None:
        """The main metric of some predictions; None where no example has a reference label."""
        scores = self.score_labels(examples, predictions)
        name = self.main_name(scores)
        return None if name is None else float(scores[name])

    def is_right(self, example: Example, prediction: str | None) -> bool | None:
        """Whether a prediction scores as the reference label itself does, by the main metric of this row.

        None where that cannot be told: without a reference label, and for a metric that has no value on a
        single row (nan or ValueError, such as a correlation's) or gives the reference label itself 0.
        """
        try:
            score, best = (self.main_score([example], [text]) for text in (prediction, example.label))
        except ValueError:
            return None
        if score is None or not best or math.isnan(best):
            return None
        return score == best

    def agrees(self, example: Example) -> bool:
        """Whether the teacher's label is right, by `is_right`, or else by its text."""
        if example.label is None:
            return False
        right = self.is_right(example, example.teacher_label)
        return is_same_text(example.label, example.teacher_label) if right is None else right

    def views(self, method: str, label_source: str = "gold") -> tuple[View, ...]:
        """The views of a method, by its name in `METHODS`."""
        gold_or_teacher = LABEL_SOURCES[label_source]
        label = View("label", gold_or_teacher, self.label_prefix)
        rationale = View("rationale", "rationale", self.rationale_prefix, rate=self.rationale_rate)
        return {
            "standard": (View("label", gold_or_teacher),),
            "task_distillation": (View("label", "teacher_label"),),
            "step_by_step": (label, rationale),
            views.SHARED: (
                View("label", gold_or_teacher),
                View("rationale", "rationale", rate=self.rationale_rate, start=views.RATIONALE_START),
            ),
            "single_task": (View("single_task", "rationale", answer=gold_or_teacher),),
            "rationale_input": (View("label", gold_or_teacher, reads_rationale=True),),
            "soft_labels": (View("label", gold_or_teacher, soft=True),),
            "logit_distillation": (label, rationale),
            "label": (label,),
            "rationale": (rationale,),
        }[method]


@contextlib.contextmanager
def without_seqio() -> Iterator[None]:
    """Within it, tasks are registered for our engine only, and TensorFlow is not imported."""
    token = _with_seqio.set(False)
    try:
        yield
    finally:
        _with_seqio.reset(token)


def register_distillation_task(
    name: str,
    source: Source,
    *,
    label_metric_fns: Sequence[MetricFn] = (accuracy,),
    rationale_metric_fns: Sequence[MetricFn] = (rouge_l,),
    label_postprocess_fn: Callable[..., Any] | None = None,
    label_prefix: str = "[label] ",
    rationale_prefix: str = "[rationale] ",
    classes: Sequence[str] | None = None,
    rationale_rate: float = 1.0,
    rationale_label_fn: Callable[[str, Example], str | None] | None = None,
    main_metric: str | None = None,
) -> DistillationTask:
    """Registers a task under `name`; call it once, at the top of a module.

    SeqIO gets the tasks `<name>_standard`, `<name>_task_distillation`, `<name>_label`,
    `<name>_label_teacher` and `<name>_rationale`, and the mixtures `<name>_step_by_step` and
    `<name>_step_by_step_teacher`. Importing the module once more changes nothing.

    Args:
      name: lower case, such as `svamp`.
      source: of the examples; see `data.sources`.
      label_metric_fns: of predicted labels.
      rationale_metric_fns: of predicted rationales, against the teacher's.
      label_postprocess_fn: applied to targets and predictions before the metrics.
      label_prefix: put before the input of the label view.
      rationale_prefix: put before the input of the rationale view.
      classes: the labels there are, where they are few.
      rationale_rate: rationales for each label in what a student is trained on; in SeqIO the rate of the
        rationale task in the mixture, whose label task has 1.
      rationale_label_fn: (rationale, example) -> the label that a rationale speaks for, or None; default
        the only one of the row's choices, or of the classes, that it names.
      main_metric: name of the label metric that the best checkpoint and the right rows are told by; default
        `accuracy`, or the first that the functions give.

    Raises:
      UserError: for a rate that is not above 0, and when another task has the name.
    """
    task = DistillationTask(
        name,
        source,
        tuple(label_metric_fns),
        tuple(rationale_metric_fns),
        label_postprocess_fn,
        label_prefix,
        rationale_prefix,
        None if classes is None else tuple(classes),
        rationale_rate,
        rationale_label_fn,
        main_metric,
    )
    if not rationale_rate > 0.0:
        raise UserError(f"task {name!r}: rationale_rate must be above 0, got {rationale_rate}")
    if name in _tasks and _identity(_tasks[name]) != _identity(task):
        raise UserError(f"another task {name!r} is registered already: choose another name")
    _tasks[name] = task
    if _with_seqio.get():
        from distill_jax.t5x import seqio_tasks

        seqio_tasks.register(task)
    return task


def _identity(value: Any) -> Any:
    """What a task is made of, the same for a module that was imported twice.

    Functions count by file and name, other objects by their class and attributes.
    """
    if isinstance(value, types.FunctionType):
        in_console = value.__module__ == "__main__"
        return None if in_console else value.__code__.co_filename, value.__qualname__
    if isinstance(value, functools.partial):
        return [_identity(part) for part in (value.func, value.args, value.keywords)]
    if isinstance(value, Mapping):
        return {key: _identity(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_identity(item) for item in value]
    attributes = getattr(value, "__dict__", None)
    if attributes is None or isinstance(value, type | types.ModuleType):
        return repr(value)
    cached = {k for k in attributes if isinstance(getattr(type(value), k, None), functools.cached_property)}
    return type(value).__qualname__, _identity({k: v for k, v in attributes.items() if k not in cached})


def task_names() -> list[str]:
    """Names of all tasks: shipped and registered."""
    return sorted({*tasks.MODULES, *_tasks})


def import_module(name: str) -> None:
    """Imports a module that registers tasks.

    Raises:
      UserError: when there is none.
    """
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(f"MIXTURE_OR_TASK_MODULE {name!r}: {error}") from None


def get_task(name: str, module: str | None = None) -> DistillationTask:
    """The task of that name, importing the shipped module or `module` where needed.

    Raises:
      UserError: when there is none.
    """
    if module is not None:
        import_module(module)
    if name not in _tasks and name in tasks.MODULES:
        importlib.import_module(f"distill_jax.tasks.{tasks.MODULES[name]}")
    if name not in _tasks:
        near = difflib.get_close_matches(name, task_names(), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"unknown task {name!r}: {hint}there are {', '.join(task_names())}")
    return _tasks[name]


def resolve(
    mixture_or_task_name: str,
    label_source: str = "gold",
    module: str | None = None,
    rationale_rate: float | None = None,
) -> tuple[DistillationTask, tuple[View, ...]]:
    """Splits a name such as `svamp_step_by_step` into its task and views.

    The names with `_teacher` at the end that SeqIO knows mean label source `teacher` here too.

    Args:
      mixture_or_task_name: TASK_METHOD.
      label_source: gold or teacher.
      module: that registers the task, if it is not shipped.
      rationale_rate: in place of the task's own.

    Raises:
      UserError: for an unknown task, method or label source.
    """
    if label_source not in LABEL_SOURCES:
        raise UserError(f"LABEL_SOURCE {label_source!r}: expected gold or teacher")
    name = mixture_or_task_name
    for method in ("label", "step_by_step"):
        if name.endswith(f"_{method}_teacher"):
            name, label_source = name.removesuffix("_teacher"), "teacher"
    for method in METHODS:
        if name.endswith(f"_{method}"):
            task = get_task(name.removesuffix(f"_{method}"), module)
            if rationale_rate is not None:
                task = dataclasses.replace(task, rationale_rate=rationale_rate)
            return task, task.views(method, label_source)
    raise UserError(
        f"unknown mixture or task {mixture_or_task_name!r}: expected TASK_METHOD with TASK of "
        f"{', '.join(task_names())} and METHOD of {', '.join(METHODS)}"
    )
