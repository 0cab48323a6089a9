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

SIZE, INODES = 64 << 20, 1 << 16  # bytes; files and folders
PAGE = os.sysconf("SC_PAGE_SIZE")
OF_INODES = 5  # moments at which there is room for no file more
COMMANDS = ("prepare", "train", "eval", "infer", "convert", "export", "select", "annotate")


class Disk:
    """A file system in memory, of a given size, at a folder."""

    def __init__(self, folder: pathlib.Path):
        self.folder, self._ballast = folder, folder / "ballast"

    def mount(self, *options: str) -> None:
        """Mounts it, or with `remount` changes it."""
        given = ",".join([f"size={SIZE}", f"nr_inodes={INODES}", *options])
        command = ["mount", "-t", "tmpfs", "-o", given, "tmpfs", self.folder]
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

    def leave_inodes(self, free: int) -> None:
        """Has room for so many files and folders more."""
        self.mount("remount", f"nr_inodes={self.used()[1] + free}")

    def clear(self) -> None:
        """Gives the room back, and may be written."""
        self.mount("remount", "rw")
        self._ballast.unlink(missing_ok=True)

    def used(self) -> tuple[int, int]:
        """Bytes and inodes of all that is on it."""
        state = os.statvfs(self.folder)
        return (state.f_blocks - state.f_bfree) * state.f_frsize, state.f_files - state.f_ffree


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


def moments(disk: Disk, count: int, size: int, inodes: int) -> dict[str, Callable[[], None]]:
    """What is done to a disk before a command that needs so many bytes and inodes, by name.

    The room ends at `count` moments, from none to a page less than needed; that for files at a few; and a disk
    is read-only.
    """
    pages = {size * number // count // PAGE * PAGE for number in range(count)}
    files = {inodes * number // OF_INODES for number in range(OF_INODES)}
    return {
        **{f"{free} bytes free": lambda free=free: disk.leave(free) for free in sorted(pages)},
        **{f"{free} inodes free": lambda free=free: disk.leave_inodes(free) for free in sorted(files)},
        "read-only": lambda: disk.mount("remount", "ro"),
    }


def fill(bench: Bench, command: str, count: int) -> dict[str, Any]:
    """A full disk at `count` moments of a command, and the others of `moments`."""
    told: dict[str, int] = {}
    wrong: list[str] = []
    with small_disk(bench.work / "disk") as disk:

        def tried(name: str, begin: Callable[[], None], expected: Results) -> None:
            place = bench.fresh(command, "full", disk.folder)
            begin()
            outcome, _ = bench.run_at(command, place)
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
        size, inodes = (after - before for after, before in zip(disk.used(), before, strict=True))
        faults = moments(disk, count, size, inodes)
        for name, fault in faults.items():
            tried(name, fault, expected)
    return {"injected": len(faults), "needed": size, "inodes": inodes, "wrong": wrong, "told": told}


def cases(bench: Bench, count: int) -> Mapping[str, Callable[[], dict[str, Any]]]:
    """Of each command `count` moments, where it needs as many pages of the disk, and a few of another kind."""

    def one(command: str) -> dict[str, Any]:
        with teacher() as bench.teacher:
            return fill(bench, command, count)

    return {command: lambda command=command: one(command) for command in COMMANDS}
