"""The task, the views and the name that a configuration stands for."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from distill_jax.config import DataOptions
from distill_jax.data.labels import class_names
from distill_jax.data.task import DistillationTask
from distill_jax.data.views import View
from distill_jax.errors import UserError
from distill_jax.tasks import own, registry


@dataclasses.dataclass(frozen=True)
class Resolved:
    """What `resolve` gives: `name` is TASK_METHOD, `own_data` the description of own files or None."""

    name: str
    task: DistillationTask
    views: Sequence[View]
    own_data: Mapping[str, Any] | None


def resolve(config: DataOptions) -> Resolved:
    """Finds the task of a configuration, or makes one of the user's own data.

    Args:
      config: where it has no method or label source, step by step on reference labels.

    Raises:
      UserError: when neither a task nor own data is given, or there is no such task.
    """
    method = getattr(config, "method_name", "step_by_step")
    own_data = None
    if config.data:
        files = (config.data, config.validation_data, config.test_data, config.rationales)
        classes = class_names(config.classes, config.classes_file)
        own_data = own.describe(*files, config.columns, classes, config.module)
        name = f"{own.own_name(own_data)}_{method}"
    elif config.mixture_or_task_name:
        name = getattr(config, "mixture", f"{config.mixture_or_task_name}_{method}")
    else:
        raise UserError("give a task, such as svamp (distill-jax data list), or your own data with --data")
    label_source, rate = getattr(config, "label_source", "reference"), getattr(config, "rationale_rate", None)
    origin = {"data_dir": config.data_dir, "teacher": config.teacher, "own_data": own_data}
    task, views = registry.resolve(name, label_source, config.module, rate, **origin)
    return Resolved(name, task, views, own_data)
