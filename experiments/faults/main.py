"""Which parts of the experiment run, and where their figures go."""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from distill_jax.experiments import results
from distill_jax.experiments.faults import page

CACHE = "cache"  # in the folder of the work: leads to the cache of what a command is to work on
FILE, PAGE = results.FOLDER / "faults.json", pathlib.Path("docs/reliability.md")
PARTS = {  # module: how many faults, of which kind
    "damage": (1, "of each kind, to each command"),
    "disk": (20, "moments at which the disk is full, of each command"),
    "flips": (200, "changed bits in a checkpoint"),
    "kills": (30, "kill -9 of each command"),
    "long_run": (20_000, "steps of a run"),
    "load": (3600, "seconds of requests to a server"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the parts, each case that the file of figures does not have yet; writes the page."""
    parser = argparse.ArgumentParser(prog="python -m distill_jax.experiments.faults", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to run")
    for name, (count, what) in PARTS.items():
        flag = name.replace("_", "-")
        text = f"{what} (default {count:,})"
        parser.add_argument(f"--{flag}", type=int, default=count, metavar="N", help=text)
    parser.add_argument("--work", type=pathlib.Path, help="folder of the runs to damage, to keep them")
    parser.add_argument("--results", type=pathlib.Path, default=FILE, help="file of the figures")
    parser.add_argument("--page-only", action="store_true", help="run nothing: write the page of the figures")
    args = parser.parse_args(argv)
    if not args.page_only:
        with tempfile.TemporaryDirectory() as folder:
            run(args, args.work or pathlib.Path(folder))
    if args.results == FILE or args.page_only:
        results.replace_part(PAGE, page.MARKS, page.page(figures(args.results)))


def figures(path: pathlib.Path) -> dict[str, Any]:
    """What the page is made of: these results, and those of the fuzzing."""
    return json.loads(path.read_text()) | {"fuzz": json.loads((results.FOLDER / "fuzz.json").read_text())}


def run(args: argparse.Namespace, work: pathlib.Path) -> None:
    """Runs the cases that are missing in the results, which are written after each."""
    environment = os.environ | {
        "DISTILL_JAX_CACHE": str(work.absolute() / CACHE),
        "JAX_COMPILATION_CACHE_DIR": str(work.absolute() / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
        "JAX_PLATFORMS": "cpu",
    }
    counts = json.dumps({part: getattr(args, part) for part in args.only})
    command = [sys.executable, "-m", f"{__package__}.parts", counts, str(work), str(args.results)]
    if status := subprocess.run(command, env=environment).returncode:
        raise SystemExit(status)
