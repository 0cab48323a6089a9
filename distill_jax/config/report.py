"""Options of `report`."""

from distill_jax.config.data import SPLITS
from distill_jax.config.options import REQUIRED, Options, option


class ReportConfig(Options):
    """The report"""

    runs: tuple[str, ...] = option(
        REQUIRED,
        "folders of runs and of sweeps, a results.json, files of floors; all of one test set",
        positional=True,
        repeat=True,
        metavar="RUNS…",
    )
    output: str = option("report", "folder for report.html, figures/ and tables/")
    title: str = option("Students compared", "of the page")
    split: str = option("test", SPLITS)
    label_by: str | None = option(
        None,
        "which evaluation of a run's folder; default the first of these that all have",
        choices=("generate", "rank", "constrain"),
    )
