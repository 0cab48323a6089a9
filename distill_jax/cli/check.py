"""`distill-jax check`: whether a run's files are as they were written."""

from distill_jax.cli.common import command
from distill_jax.config import CheckConfig


@command("check", "look for damage in a run's checkpoints and files")
def _check(config: CheckConfig) -> int:
    from rich.table import Table
    from rich.text import Text

    from distill_jax.checkpoints.checking import check_run
    from distill_jax.experiments.console import console

    checked = check_run(config.model_dir)
    table = Table(title=config.model_dir, title_justify="left")
    for name in ("file", "state", "found"):
        table.add_column(name, overflow="fold")  # a name that is cut short names no file
    for each in checked:
        table.add_row(each.name, "DAMAGED" if each.is_damaged else "", Text(each.words))
    console().print(table)
    return int(any(each.is_damaged for each in checked))
