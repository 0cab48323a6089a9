"""The task, the views and the name that a configuration stands for."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from distill_jax.config import DataOptions, PretrainConfig
from distill_jax.data.labels import class_names
from distill_jax.data.sources import HeldOutSource, Source
from distill_jax.data.sources.text import TextSource
from distill_jax.data.task import DistillationTask
from distill_jax.data.views import View
from distill_jax.errors import UserError
from distill_jax.tasks import own, registry
from distill_jax.tasks.definition import define_task


@dataclasses.dataclass(frozen=True)
class Resolved:
    """What `resolve` gives.

    `name` is TASK_METHOD, or "" for text; `own_data` is the description of own files, or None.
    """

    name: str
    task: DistillationTask
    views: Sequence[View]
    own_data: Mapping[str, Any] | None


def resolve(config: DataOptions | PretrainConfig) -> Resolved:
    """Finds the task of a configuration, or makes one of the user's own data, or of text to pretrain on.

    Args:
      config: where it has no method or label source, step by step on reference labels.

    Raises:
      UserError: when neither a task nor own data is given, or there is no such task.
    """
    if isinstance(config, PretrainConfig):
        return _of_text(config)
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


def _of_text(config: PretrainConfig) -> Resolved:
    """Text as a task: its examples are documents, and its view has neither labels nor rationales."""
    task = config.task and registry.get_task(config.task, config.module, config.data_dir)
    source: Source = TextSource(config.texts, config.column, task and task.source)
    if config.held_out:
        advice = f"give more text, a document a line, or {config.named('held_out')} 0"
        source = HeldOutSource(source, whole_inputs=True, share=config.held_out, advice=advice)
    noise = None if config.is_causal else (config.noise_density, config.mean_noise_span_length)
    text = define_task("text", source, label_prefix="", rationale_prefix="")
    return Resolved("", text, (View("text", "input", noise=noise, window=config.window),), None)
