"""Kinds of damage to the files of a run, each before every command that may read them."""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distill_jax import checksums
from distill_jax.checkpoints.layout import CONFIG, DATA, LOADER, METRICS, RUN, SCORES, STATE, checkpoints_of
from distill_jax.data.vocabularies import train_vocabulary
from distill_jax.experiments.faults.bench import COMMANDS, STEPS, TEXTS, Bench, Results
from distill_jax.experiments.faults.commands import Outcome

OF_STEP = (f"checkpoints/{STEPS}", f"checkpoint {STEPS} is damaged")
Spoil = Callable[[bytes], bytes]


@dataclasses.dataclass(frozen=True)
class Damage:
    """A kind of damage.

    Attributes:
      inject: does it to a place.
      names: a line that tells of it has one of these words.
    """

    inject: Callable[[pathlib.Path], None]
    names: tuple[str, ...]


def largest(folder: pathlib.Path) -> pathlib.Path:
    """The file with the most bytes below a folder."""
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def spoil(path: pathlib.Path, how: Spoil) -> None:
    """Replaces the content of a file by what `how` makes of it."""
    path.write_bytes(how(path.read_bytes()))


def flipped(content: bytes) -> bytes:
    """With one bit in the middle changed."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def cut(content: bytes) -> bytes:
    """Without its second half."""
    return content[: len(content) // 2]


def _step(place: pathlib.Path) -> pathlib.Path:
    return checkpoints_of(place / "run") / str(STEPS)


def _of_state(how: Spoil) -> Damage:
    return Damage(lambda place: spoil(largest(_step(place) / STATE), how), OF_STEP)


def _empty_step(place: pathlib.Path) -> None:
    shutil.rmtree(_step(place))
    _step(place).mkdir()


def _in_run(name: str, how: Spoil) -> Damage:
    return Damage(lambda place: spoil(place / "run" / name, how), (name,))


def _fields(**changes: Any) -> Spoil:
    """Other fields of the model in run.json."""

    def change(content: bytes) -> bytes:
        run = json.loads(content)
        return json.dumps(run | {"model": run["model"] | changes}).encode()

    return change


def _place_in_data(place: pathlib.Path) -> None:
    """Of which the checksums are right: it was written so."""
    (_step(place) / LOADER / "metadata").write_text('{"next_index": "x"}')
    (_step(place) / checksums.NAME).unlink()
    checksums.write(_step(place))


def _in_cache(name: str, how: Spoil) -> Damage:
    def inject(place: pathlib.Path) -> None:
        for path in (place / "cache").rglob(name):
            spoil(path, how)

    return Damage(inject, (name,))


def _broken_output(place: pathlib.Path) -> None:
    """As `infer` left it when it was stopped half-way, but for its second line."""
    rows = (place / "out.jsonl").read_text().splitlines(keepends=True)[: len(TEXTS) // 2]
    rows[1] = rows[1][:20] + "\n"
    (place / "out.jsonl").write_text("".join(rows))


def _garbage_in_the_middle_and_at_the_end(content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join([*lines[:1], b"\xff\x00{{\n", *lines[1:], b'{"step": 7, "tr'])


DAMAGES: Mapping[str, Damage] = {
    "a flipped bit in a checkpoint": _of_state(flipped),
    "a cut file of a checkpoint": _of_state(cut),
    "an empty file of a checkpoint": _of_state(lambda content: b""),
    "a missing file of a checkpoint": Damage(lambda place: largest(_step(place) / STATE).unlink(), OF_STEP),
    "an empty latest step": Damage(_empty_step, OF_STEP),
    "a checkpoint without checksums": Damage(lambda place: (_step(place) / checksums.NAME).unlink(), OF_STEP),
    "a place in the data that is none": Damage(_place_in_data, OF_STEP),
    "another vocabulary": Damage(
        lambda place: train_vocabulary(TEXTS, 300).save(place / "run"), ("vocabulary",)
    ),
    "run.json is []": _in_run(RUN, lambda content: b"[]"),
    "run.json of other sizes": _in_run(RUN, _fields(emb_dim=24)),
    "run.json of another family": _in_run(RUN, _fields(model_family="umt5")),
    "config.json is cut": _in_run(CONFIG, cut),
    "data.json is cut": _in_run(DATA, cut),
    "scores.json is no JSON": Damage(lambda place: (place / "run" / SCORES).write_bytes(b"\xff[["), (SCORES,)),
    "garbage in metrics.jsonl": _in_run(METRICS, _garbage_in_the_middle_and_at_the_end),
    "prepared rows are cut": _in_cache("rows.array_record", cut),
    "the manifest of prepared rows is []": _in_cache("manifest.json", lambda content: b"[]"),
    "a broken line in the middle of infer's output": Damage(_broken_output, ("out.jsonl",)),
}


def verdict(outcome: Outcome, made: Results, expected: Results, names: Sequence[str]) -> tuple[str, str]:
    """What a command made of damage, and the line that it told; the former begins with `WRONG` if it may not.

    `names` are the words of which a line that tells of the damage has one.
    """
    if fault := outcome.fault():
        return "WRONG: " + fault, ""
    if outcome.status:
        [line] = outcome.errors
        return ("stops" if any(name in line for name in names) else "WRONG: the file is not named"), line
    if made != expected:
        return "WRONG: another result, and nothing said", ""
    told = [line for line in outcome.warnings if any(name in line for name in names)]
    return ("recovers", told[0]) if told else ("does not need it", "")


def cases(bench: Bench, count: int) -> Mapping[str, Callable[[], dict[str, Any]]]:
    """What each command makes of each kind of damage, `COMMAND: KIND`; `count` is not used."""
    expected: dict[str, Results] = {}

    def undisturbed(command: str) -> Results:
        """What a command makes of the base."""
        if command not in expected:
            outcome, expected[command] = bench.run_at(command, bench.copy("undisturbed"))
            if outcome.status or outcome.fault():
                raise SystemExit(f"error: {command} fails on a run that nothing has damaged: {outcome.err}")
        return expected[command]

    def one(command: str, kind: str) -> dict[str, Any]:
        wanted, place = undisturbed(command), bench.copy("damaged")
        if kind.endswith("infer's output"):
            bench.run(bench.words("infer", place), place)
        DAMAGES[kind].inject(place)
        outcome, made = bench.run_at(command, place)
        what, line = verdict(outcome, made, wanted, DAMAGES[kind].names)
        return {"what": what, "line": line.replace(f"{place}/", "").replace(f"{bench.work}/", "")}

    pairs = [(command, kind) for kind in DAMAGES for command in COMMANDS]
    return {": ".join(pair): lambda pair=pair: one(*pair) for pair in pairs}
