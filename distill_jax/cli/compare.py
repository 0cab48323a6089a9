"""`distill-jax compare`: do two runs differ by more than chance?"""

import json

from distill_jax.cli.common import add_command
from distill_jax.config import CompareConfig


def _compare(config: CompareConfig) -> int:
    from distill_jax.evaluation.comparison import compare_files

    result = compare_files(config.first, config.second, resamples=config.resamples, seed=config.seed)
    if config.json:
        print(json.dumps(result, indent=2))
        return 0
    from rich.console import Console

    from distill_jax.evaluation.tables import comparison_table

    Console().print(comparison_table(result))
    return 0


def add(commands) -> None:
    """Adds the command."""
    add_command(commands, "compare", "test two runs' predictions for a difference", _compare, CompareConfig)
