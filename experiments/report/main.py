"""Runs `distill-jax report`."""

import pathlib
import shlex

from distill_jax.config import ReportConfig
from distill_jax.errors import UserError
from distill_jax.experiments.report import inputs, page


def report(config: ReportConfig) -> tuple[pathlib.Path, list[str]]:
    """Writes the report; its page, and what is left out and why.

    Raises:
      UserError: see `inputs.read` and `page.write`; for no students among the inputs.
    """
    found = inputs.read(config.runs, config.split, config.label_by)
    if all(run.is_rule for run in found.runs):
        raise UserError(
            f"{', '.join(config.runs)}: rules and teachers only: give a run or the results of a sweep"
        )
    flags = [] if config.split == "test" else ["--split", config.split]
    flags += ["--label-by", config.label_by] if config.label_by else []
    flags += ["--output", config.output] if config.output != "report" else []
    command = shlex.join(["distill-jax", "report", *config.runs, *flags])
    folder = pathlib.Path(config.output)
    notes = page.write(folder, found, config.title, [], command)
    return folder / page.PAGE, notes
