"""Registers all shipped tasks with SeqIO: for MIXTURE_OR_TASK_MODULE and `--module_import`."""

import importlib

from distill_jax import tasks

for _module in sorted(set(tasks.MODULES.values())):
    importlib.import_module(f"distill_jax.tasks.{_module}")
