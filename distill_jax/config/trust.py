"""What a file of somebody else may not decide alone: which code runs, and where data and keys are sent."""

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

from distill_jax.config.options import Options, default_of, label_of, option
from distill_jax.errors import UserError

OURS = ("distill_jax.tasks", "distill_jax.t5x.tasks")  # modules that do nothing but register tasks


class TrustOption(Options):
    """Files of others"""

    trust: bool = option(
        False,
        "let files name modules to import, and let a run's links lead out of its folder: SECURITY.md",
        guarded="which a file cannot say of itself",
    )


def runs_code(module: str) -> bool:
    """Whether an import would run code that is not ours: not of a module that is imported already."""
    is_ours = any(module == name or module.startswith(f"{name}.") for name in OURS)
    return not is_ours and module not in sys.modules


def refuse_guarded(
    values: Mapping[str, Any], places: Mapping[str, str], fields: Mapping[str, dataclasses.Field]
) -> None:
    """Raises UserError for a value that counts only with `--trust`; `values` and places are by option."""
    for name, value in values.items():
        reason = fields[name].metadata["option"].guarded
        if not reason or value == default_of(fields[name]) or (name == "module" and not runs_code(str(value))):
            continue
        raise UserError(
            f"{places[name]}: {label_of(fields[name])} {value!r:.80}, {reason}: give --trust if you trust "
            "whoever wrote this file"
        )
