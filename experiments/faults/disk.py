"""A disk that gets full at some moment of a command, and one that is read-only; then the same with room."""

import contextlib
import json
import os
import pathlib
import subprocess
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from distill_jax import checksums
from distill_jax.checkpoints import whole
from distill_jax.checkpoints.orbax import step_folders
from distill_jax.experiments.faults.bench import Bench, Results
from distill_jax.experiments.faults.teacher import teacher

SIZE = 64 << 20  # bytes
PAGE = os.sysconf("SC_PAGE_SIZE")
COMMANDS = ("prepare", "train", "eval", "infer", "convert", "export", "select", "annotate")


class Disk:
    """A file system in memory, of a given size, at a folder."""

    def __init__(self, folder: pathlib.Path):
        self.folder, self._ballast = folder, folder / "ballast"

    def mount(self, *options: str) -> None:
        """Mounts it, or with `remount` changes it."""
        command = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={SIZE}", *options]), "tmpfs", self.folder]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(
                f"error: {done.stderr.strip()}: run it as root, or begin with unshare --map-root-user --mount"
            )

    def leave(self, free: int) -> None:
        """Fills it but for so many bytes."""
        state = os.statvfs(self.folder)
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(state.f_bavail * state.f_frsize - free, PAGE))

    def clear(self) -> None:
        """Gives the room back."""
        self._ballast.unlink()

    def used(self) -> int:
        """Bytes of all that is on it."""
        state = os.statvfs(self.folder)
        return (state.f_blocks - state.f_bfree) * state.f_frsize


@contextlib.contextmanager
def small_disk(folder: pathlib.Path) -> Iterator[Disk]:
    """A disk while the block runs."""
    folder.mkdir(exist_ok=True)
    disk = Disk(folder)
    disk.mount()
    try:
        yield disk
    finally:
        subprocess.run(["umount", folder], check=True)


def half(place: pathlib.Path) -> list[str]:
    """What is not whole, and has its final name all the same."""
    run = str(place / "run")
    found = [f"checkpoint {step}" for step in step_folders(run) if whole.damage(run, step)]
    found += [str(path.parent) for path in place.rglob(checksums.NAME) if checksums.damaged(path.parent)]
    found += [str(path) for path in place.rglob("*.partial")]
    for path in [*place.rglob("*.json"), *place.rglob("*.jsonl")]:
        text = path.read_text()
        try:
            for part in [text] if path.suffix == ".json" else text.splitlines():
                json.loads(part)
        except ValueError:
            found.append(str(path))
    return found


def fill(bench: Bench, command: str, count: int) -> dict[str, Any]:
    """A full disk at `count` moments of a command, and a read-only one."""
    told: dict[str, int] = {}
    wrong: list[str] = []
    with small_disk(bench.work / "disk") as disk:

        def tried(free: int | None, expected: Results | None) -> None:
            """One moment: None for a read-only disk."""
            name = "read-only" if free is None else f"{free} bytes free"
            place = bench.fresh(command, "full", disk.folder)
            disk.mount("remount", "ro") if free is None else disk.leave(free)
            outcome, _ = bench.run_at(command, place)
            if free is None:
                disk.mount("remount", "rw")
            else:
                disk.clear()
            if fault := outcome.fault():
                wrong.append(f"{name}: {fault}")
            elif outcome.status == 0:
                told["had room"] = told.get("had room", 0) + 1
            else:
                line = outcome.errors[0].replace(f"{place}/", "").replace(f"{bench.work}/", "")
                told[line] = told.get(line, 0) + 1
            wrong.extend(f"{name}: half: {path}" for path in half(place))
            outcome, made = bench.run_at(command, place)
            if outcome.status or made != expected:
                wrong.append(f"{name}: then with room: {outcome.err[-300:] or 'another result'}")

        place = bench.fresh(command, "full", disk.folder)
        before = disk.used()
        outcome, expected = bench.run_at(command, place)
        if outcome.status:
            raise SystemExit(f"error: {command} fails on a disk that has room: {outcome.err}")
        needed = disk.used() - before
        moments = sorted({needed * number // count // PAGE * PAGE for number in range(count)})
        for free in [*moments, None]:
            tried(free, expected)
    return {"injected": len(moments) + 1, "needed": needed, "wrong": wrong, "told": told}


def cases(bench: Bench, count: int) -> Mapping[str, Callable[[], dict[str, Any]]]:
    """Of each command `count` moments, where it needs as many pages of the disk."""

    def one(command: str) -> dict[str, Any]:
        with teacher() as bench.teacher:
            return fill(bench, command, count)

    return {command: lambda command=command: one(command) for command in COMMANDS}
