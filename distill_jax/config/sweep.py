"""Options of `sweep`; what is run is in its YAML file, see `experiments.sweep.grid`."""

import os
import pathlib

from distill_jax.config.options import REQUIRED, option
from distill_jax.config.trust import TrustOption


class SweepConfig(TrustOption):
    """The sweep"""

    file: str = option(REQUIRED, "YAML file of the sweep; see docs/sweep.md", positional=True, path=True)
    output: str | None = option(None, "folder of the cells and results.json; default sweeps/NAME of the file")
    workers: int = option(1, "cells that run at once; local ones share out cores and GPUs", minimum=1)
    retries: int = option(1, "further attempts of a cell that failed", minimum=0)
    finished: str | None = option(
        None, "results.json of this sweep from another machine: what is finished there is not run", path=True
    )
    table: bool = option(False, "run nothing: results.json and table of what is finished")
    cell: str | None = option(None, "run this cell alone, in this process", metavar="NAME")
    cluster: str | None = option(
        None, "run each cell as a job of submitit; local: on this machine", choices=("slurm", "local")
    )

    @property
    def folder(self) -> pathlib.Path:
        """Where everything is written, absolute."""
        name = pathlib.Path(self.file).stem
        return pathlib.Path(os.path.abspath(self.output or os.path.join("sweeps", name)))
