"""The registry of tasks: names to `DistillationTask` objects, for our engine.

Registering has no other effect; `distill_jax.t5x.seqio_tasks.register` gives SeqIO the registered tasks.
"""

import dataclasses
import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from distill_jax import tasks
from distill_jax.config import PrepareConfig
from distill_jax.config.options import nearest
from distill_jax.data.sources import Source
from distill_jax.data.task import LABEL_SOURCES, METHODS, DistillationTask
from distill_jax.data.views import View
from distill_jax.errors import UserError
from distill_jax.tasks import own
from distill_jax.tasks.definition import define_task, import_module


class Registry:
    """Tasks by name. The process has one, `REGISTRY`; a test makes its own.

    Args:
      modules: task -> module of `distill_jax.tasks` whose import registers it; imported when asked for.
    """

    def __init__(self, modules: Mapping[str, str] | None = None):
        self._modules = dict(modules or {})
        self._tasks: dict[str, DistillationTask] = {}
        self._origins: dict[str, str] = {}

    def add(self, task: DistillationTask, origin: str = "") -> DistillationTask:
        """Adds a task of the file `origin`. A file that is run once more replaces its own tasks.

        Raises:
          UserError: when the task of that name comes from another file.
        """
        before = self._origins.get(task.name, origin)
        if before != origin:
            raise UserError(
                f"another task {task.name!r} is registered already, by {before}: choose another name"
            )
        self._tasks[task.name], self._origins[task.name] = task, origin
        return task

    def remove(self, name: str) -> None:
        """Forgets a task; one of a shipped module stays away until the process ends."""
        del self._tasks[name], self._origins[name]

    def names(self) -> list[str]:
        """Names of all tasks: shipped and registered."""
        return sorted({*self._modules, *self._tasks})

    def get(
        self, name: str, module: str | None = None, data_dir: str | None = None, teacher: str | None = None
    ) -> DistillationTask:
        """The task of that name, importing the shipped module or `module` where needed.

        Args:
          name: such as `svamp`.
          module: Python module that registers it, where it is not shipped.
          data_dir: folder of the data sets; default DISTILL_JAX_DATA_DIR.
          teacher: folder of the completions within a set; default DISTILL_JAX_TEACHER, or `llm`.

        Raises:
          UserError: when there is none.
        """
        if module is not None:
            import_module(module)
        if name not in self._tasks and name in self._modules:
            importlib.import_module(f"distill_jax.tasks.{self._modules[name]}")
        if name not in self._tasks:
            raise UserError(f"unknown task {name!r}: {nearest(name, self.names())}")
        return self._tasks[name].located(data_dir, teacher)

    def resolve(
        self,
        mixture_or_task_name: str,
        label_source: str = "reference",
        module: str | None = None,
        rationale_rate: float | None = None,
        data_dir: str | None = None,
        teacher: str | None = None,
        own_data: Mapping[str, Any] | None = None,
    ) -> tuple[DistillationTask, tuple[View, ...]]:
        """The task and views of a name such as `svamp_step_by_step`.

        The names with `_teacher` at the end that SeqIO knows mean label source `teacher` here too.

        Args:
          mixture_or_task_name: TASK_METHOD; METHOD alone does with `own_data`.
          label_source: reference or teacher.
          module: that registers the task, if it is not shipped.
          rationale_rate: in place of the task's own.
          data_dir, teacher: as `get` takes them.
          own_data: of `own.describe`: the user's own files, a task that is not registered.

        Raises:
          UserError: for an unknown task, method or label source.
        """
        if label_source not in LABEL_SOURCES:
            option = PrepareConfig.named("label_source")
            raise UserError(f"{option} {label_source!r}: expected {' or '.join(LABEL_SOURCES)}")
        name = mixture_or_task_name
        for method in ("label", "step_by_step"):
            if name.endswith(f"{method}_teacher"):
                name, label_source = name.removesuffix("_teacher"), "teacher"
        for method in METHODS:
            if own_data is not None and f"_{name}".endswith(f"_{method}"):
                task = own.own_task(own_data).located(data_dir, teacher)
            elif name.endswith(f"_{method}"):
                task = self.get(name.removesuffix(f"_{method}"), module, data_dir, teacher)
            else:
                continue
            if rationale_rate is not None:
                task = dataclasses.replace(task, rationale_rate=rationale_rate)
            return task, task.views(method, label_source)
        known = [f"{task}_{method}" for task in self.names() for method in METHODS]
        expected = (
            f"expected TASK_METHOD, with TASK of {', '.join(self.names())}, METHOD of {', '.join(METHODS)}"
        )
        hint = nearest(mixture_or_task_name, known, expected)
        raise UserError(f"unknown mixture or task {mixture_or_task_name!r}: {hint}")


REGISTRY = Registry(tasks.MODULES)
task_names = REGISTRY.names
get_task = REGISTRY.get
resolve = REGISTRY.resolve


def register_distillation_task(
    name: str, source: Source, *, registry: Registry = REGISTRY, **options: Any
) -> DistillationTask:
    """Defines a task and registers it; call it at the top of a module.

    Our engine finds it as `<name>_<METHOD>`. After `distill_jax.t5x.seqio_tasks.register()` SeqIO has the tasks
    `<name>_standard`, `<name>_task_distillation`, `<name>_label`, `<name>_label_teacher`, `<name>_rationale`
    and others, and the mixtures `<name>_step_by_step` and `<name>_step_by_step_teacher`.

    Args:
      name: lower case, such as `svamp`.
      source: of the examples; see `data.sources`.
      registry: where to; default the process's.
      **options: see `definition.define_task`.

    Raises:
      UserError: for a rate that is not above 0, and when a task of another file has the name.
    """
    caller = inspect.currentframe().f_back.f_globals
    return registry.add(define_task(name, source, **options), caller.get("__file__") or caller["__name__"])
