"""The part of docs/reliability.md that has figures, from the results of the parts."""

from collections.abc import Iterator, Mapping
from typing import Any

from distill_jax.experiments.report.tables import markdown

MARKS = "<!-- faults -->\n", "<!-- /faults -->"
TEXT = """`{command}` injects faults into runs of the tiniest student, gives the same command
again, and compares what it makes with what an undisturbed one makes, bit by bit. Found:

{summary}
{damage}{load}{fuzz}"""
DAMAGE = """### Damaged files before each command

*stops*: one `error:` line that names the file and the way out. *recovers*: a warning that names it, and the
same result. *unharmed*: the same result; the command does not need the file.

{table}
"""
LOAD = """### Load and long runs

{lines}"""
FUZZ = """
### Hostile files

`python -m distill_jax.experiments.fuzz` feeds each reader of files and requests with damaged and odd ones
({engine}): {inputs:,} inputs in {minutes:.0f} minutes. A finding is an exception but ours, more than
{seconds:g} seconds, more than {gib:g} GiB or the death of the process; {faults} are not mended.

{table}
"""
GROWS = (
    "What grows: the first validations compile a program of decoding for each number of rows and length of "
    "output that they meet, until they have met all; and TensorStore keeps a little of each save."
)
COMMAND = "python -m distill_jax.experiments.faults"
SHOWN = {"stops": "stops", "recovers": "recovers", "does not need it": "unharmed"}
TESTS = {
    "kills": "`teachers/test_kill.py`, `training/test_processes.py`",
    "disk": "`faults/test_disk_full.py`",
    "flips": "`faults/test_checkpoints.py`, `faults/test_records.py`",
    "damage": "`faults/test_damage.py`",
}

Figures = Mapping[str, Mapping[str, Mapping[str, Any]]]


def _lost(**counts: int) -> str:
    """Nothing, or how many times what, with `_` for spaces."""
    return (
        ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count) or "nothing"
    )


def _summary(figures: Figures) -> Iterator[list[str]]:
    for name, found in figures.get("kills", {}).items():
        lost = _lost(rows_or_arrays=found["lost"], too_many=found["more"], failed=found["failed"])
        yield [f"`kill -9` of {name}", f"{found['injected']:,}", lost, "the same command", TESTS["kills"]]
    for name, found in figures.get("flips", {}).items():
        again = "the step before" if name == "checkpoint" else "made anew"
        lost = f"{found['unnoticed']} unnoticed"
        yield [f"a changed bit, {name}", f"{found['injected']:,}", lost, again, TESTS["flips"]]
    for name, found in figures.get("disk", {}).items():
        lost = _lost(more_than_a_line_or_half_a_file_or_another_result=len(found["wrong"]))
        what = f"a full or read-only disk, {name}"
        yield [what, f"{found['injected']:,}", lost, "the same command, with room", TESTS["disk"]]
    if cells := figures.get("damage"):
        wrong = sum(cell["what"] not in SHOWN for cell in cells.values())
        kinds = len({name.partition(": ")[2] for name in cells})
        lost = _lost(not_told_or_another_result=wrong)
        yield [f"damaged files, {kinds} kinds", f"{len(cells):,}", lost, "see below", TESTS["damage"]]


def _damage(figures: Figures) -> str:
    found = figures.get("damage", {})
    if not found:
        return ""
    pairs = [name.split(": ") for name in found]
    commands, kinds = (list(dict.fromkeys(parts)) for parts in zip(*pairs, strict=True))
    rows = []
    for kind in kinds:
        cells = [found.get(f"{command}: {kind}", {}).get("what", "not run") for command in commands]
        rows.append([kind, *(SHOWN.get(what, what) for what in cells)])
    return DAMAGE.format(table=markdown(["damage", *commands], rows))


def _load(figures: Figures) -> str:
    lines = []
    for found in figures.get("long_run", {}).values():
        memory = " and ".join(f"{each['per_10000_steps']:+.1f} MiB" for each in found["memory_mib"])
        mean = " and ".join(f"{each['mean']:.0f} MiB" for each in found["memory_mib"])
        step = found["step_ms"]
        lines.append(
            f"A run of {found['steps']:,} steps with {found['saves']} checkpoints, {found['validations']} "
            f"validations and a `kill -9` half-way: memory {mean} in its two processes (without pages of "
            f"files), which grows by {memory} in 10,000 steps (slope of a regression after the first fifth); a "
            f"step takes {step['mean']:.1f} ms, and {step['per_10000_steps']:+.2f} ms after 10,000 steps. "
            f"{GROWS}\n"
        )
    for found in figures.get("load", {}).values():
        minutes, grown = found["seconds"] / 60, f"{found['mib_per_hour']:+.0f} MiB"
        lines.append(
            f"A server of that student, {minutes:.0f} minutes of mixed requests (chats, streams, samples, "
            f"classes to rank, bad ones, clients that go away): {found['requests']:,} requests, "
            f"{found['lost']} without an answer, {found['wrong']} with another answer than the first to the "
            f"same; memory {found['mib']:.0f} MiB at the end, by a regression {grown} in an hour, of one "
            "client for a third of the time, then 8, then 64.\n"
        )
        rows = [
            [
                name.split()[0],
                f"{speed['requests_per_second']:.0f}",
                f"{speed['p50_ms']:.0f}",
                f"{speed['p99_ms']:.0f}",
            ]
            for name, speed in found["speed"].items()
        ]
        lines.append(markdown(["clients", "requests a second", "p50, ms", "p99, ms"], rows))
    return LOAD.format(lines="\n".join(lines)) if lines else ""


def _fuzz(figures: Mapping[str, Any]) -> str:
    total, limits = figures["total"], figures["limits"]
    rows = [
        [name, f"{each['inputs']:,}", str(len(each["faults"]))] for name, each in figures["readers"].items()
    ]
    return FUZZ.format(
        engine=figures["engine"],
        inputs=total["inputs"],
        minutes=total["seconds"] / 60,
        seconds=limits["seconds"],
        gib=limits["bytes"] / 2**30,
        faults=total["faults"],
        table=markdown(["reader", "inputs", "findings"], rows),
    )


def page(figures: Figures) -> str:
    """The part of the page, without the marks."""
    columns = ["fault", "injected", "lost", "recovery", "tests"]
    summary = markdown(columns, list(_summary(figures)))
    fuzz = _fuzz(figures["fuzz"]) if "fuzz" in figures else ""
    return TEXT.format(
        command=COMMAND, summary=summary, damage=_damage(figures), load=_load(figures), fuzz=fuzz
    )
