"""Feeds every reader of the package with hostile files, each in a process of its own.

    pip install atheris
    python -m distill_jax.experiments.fuzz --seconds 20

The inputs are made of whole ones: bytes that are changed, values of a tree that are replaced by odd ones. Where
atheris is installed, it keeps the inputs that reach code that none has reached before, and changes these too. A
reader may read an input, or refuse it with one line that names the file. Anything else is a fault: another
exception, more than 2 seconds, more than 1 GiB, the death of the process. The exit status
is 1 where there are any.
"""

import argparse
import base64
import importlib.util
import json
import multiprocessing
import pathlib
import platform
import tempfile
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from distill_jax.experiments import results
from distill_jax.experiments.console import console

SECONDS, MEMORY = 2.0, 1 << 30  # that an input may take, beside what the process has
_LATE = 240  # seconds that a process may take beside feeding: it makes a student first
KEPT = 400  # bytes of an input that are noted


def _process(name: str, seconds: float, number: int, folder: str) -> None:
    from distill_jax.experiments.fuzz import one

    one.run(name, seconds, number, pathlib.Path(folder))


def _fed(name: str, seconds: float, number: int) -> dict[str, Any]:
    """The figures of a reader; of one whose process died or hung, the input that it died of as a fault."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        process = multiprocessing.get_context("forkserver").Process(
            target=_process, args=(name, seconds, number, temporary)
        )
        process.start()
        process.join(seconds + _LATE)
        ended = "the process hung" if process.is_alive() else f"the process ended with {process.exitcode}"
        process.kill()
        process.join()
        if (folder / "figures.json").exists():
            return json.loads((folder / "figures.json").read_text())
        if not (folder / "input").exists():
            raise SystemExit(f"error: {name}: {ended}, before it was fed")
        content = base64.b64encode((folder / "input").read_bytes()[:KEPT]).decode()
        return {"inputs": 0, "seconds": 0.0, "faults": {ended: {"words": ended, "input": content, "times": 1}}}


def names(only: Sequence[str]) -> list[str]:
    """The readers whose names begin so; all without any."""
    from distill_jax.experiments.fuzz.one import TARGETS

    return [name for name in TARGETS if not only or name.startswith(tuple(only))]


def main(argv: Sequence[str] | None = None) -> None:
    """Feeds the readers, writes the figures, and prints them."""
    text = __doc__.split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m distill_jax.experiments.fuzz", description=text)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each reader")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs")
    parser.add_argument(
        "--only", nargs="*", default=[], help="readers whose names begin so; the figures of others stay"
    )
    parser.add_argument("--results", type=pathlib.Path, default=results.FOLDER / "fuzz.json")
    args = parser.parse_args(argv)
    multiprocessing.get_context("forkserver").set_forkserver_preload(["distill_jax.experiments.fuzz.preload"])
    table = Table("reader", "inputs", "seconds", "slowest, s", "faults")
    before = json.loads(args.results.read_text())["readers"] if args.only and args.results.exists() else {}
    readers = {name: before[name] for name in names([]) if name in before}
    for name in names(args.only):
        readers[name] = found = _fed(name, args.seconds, args.seed)
        faults = [f"{each['times']} of {place}: {each['words']}" for place, each in found["faults"].items()]
        slowest = f"{found.get('slowest', 0.0):.2f}"
        table.add_row(name, f"{found['inputs']:,}", f"{found['seconds']:.0f}", slowest, "\n".join(faults))
    total = {"inputs": sum(each["inputs"] for each in readers.values())}
    total |= {"seconds": round(sum(each["seconds"] for each in readers.values()), 1)}
    total |= {"faults": sum(len(each["faults"]) for each in readers.values())}
    engine = "atheris" if importlib.util.find_spec("atheris") else "mutations alone"
    figures = {"engine": engine, "python": platform.python_version(), "seed": args.seed, "total": total}
    results.write(args.results, figures | {"limits": {"seconds": SECONDS, "bytes": MEMORY}, "readers": readers})
    console(width=140).print(table)
    print(f"{total['inputs']:,} inputs, {total['faults']} faults: {args.results}")
    raise SystemExit(int(total["faults"] > 0))
