"""The settings of all benchmarks: repetitions, sizes, data."""

import argparse
import dataclasses
import math
import os
import pathlib


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a run.

    Attributes:
      repeats: measurements of each contestant, taken in turn.
      seconds: for the rounds of a part; the first is always done.
      full: all rows of the test split, and every setting that peers can be tuned by.
      rows: rows of the task; a row of step-by-step is a pair of examples.
      batch: pairs of an update.
      family: a folder of `gin_configs/models`; t5x takes part in T5 1.1's alone.
      size: a name in that folder.
      dtype: of activations and matrix products.
      threads: cores to use.
      data_dir: folder with the paper's data; None takes a generated set of the same lengths.
      work: folder for what is prepared on the way.
    """

    repeats: int = 3
    seconds: float = math.inf
    full: bool = False
    rows: int = 256
    batch: int = 16
    family: str = "t5_1_1"
    size: str = "small"
    dtype: str = "float32"
    threads: int = dataclasses.field(default_factory=lambda: len(os.sched_getaffinity(0)))
    data_dir: str | None = None
    work: str = "benchmarks/.work"


def shared_data() -> str | None:
    """`DISTILL_JAX_SHARED`'s data sets, or DISTILL_JAX_DATA_DIR; None where CQA is in neither."""
    shared = os.environ.get("DISTILL_JAX_SHARED")
    candidates = [shared and os.path.join(shared, "datasets"), os.environ.get("DISTILL_JAX_DATA_DIR")]
    for folder in filter(None, candidates):
        if (pathlib.Path(folder) / "cqa").is_dir():
            return folder
    return None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `Settings`."""
    defaults = Settings()
    parser.add_argument(
        "--full", action="store_true", help="all parts, rows and rounds: about an hour and a half"
    )
    parser.add_argument("--repeats", type=int, help="measurements of each contestant; default 3, of --full 5")
    parser.add_argument("--rows", type=int, default=defaults.rows, help="pairs of examples a measurement takes")
    parser.add_argument("--batch", type=int, default=defaults.batch, help="pairs of an update")
    parser.add_argument("--size", default=defaults.size, help="of the students")
    parser.add_argument("--threads", type=int, default=defaults.threads, help="cores to use")
    parser.add_argument(
        "--data-dir", default=shared_data(), help="folder with cqa/; without, a generated set of its lengths"
    )


def from_arguments(args: argparse.Namespace) -> Settings:
    """The settings that were given; a process is held to `threads` cores."""
    names = {field.name for field in dataclasses.fields(Settings)}
    settings = Settings(**{name: value for name, value in vars(args).items() if name in names} | _rounds(args))
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[: settings.threads])
    return settings


def _rounds(args: argparse.Namespace) -> dict[str, int]:
    return {"repeats": args.repeats or (5 if args.full else Settings.repeats)}


def parse(description: str) -> Settings:
    """The settings of a benchmark that is run on its own."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    add_arguments(parser)
    return from_arguments(parser.parse_args())
