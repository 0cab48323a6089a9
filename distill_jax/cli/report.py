"""`distill-jax report`: runs as one page."""

import sys

from distill_jax.cli.common import command
from distill_jax.config import ReportConfig


@command("report", "runs as one page: figures, tests, errors, cost")
def _report(config: ReportConfig) -> int:
    from distill_jax.experiments.report.main import report

    page, notes = report(config)
    for note in notes:
        print(note, file=sys.stderr)
    print(page)
    return 0
