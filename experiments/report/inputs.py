"""Reads what a report is made of: folders of runs, files of results, files of floors."""

import json
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from distill_jax import files
from distill_jax.checkpoints import run_dir
from distill_jax.checkpoints.layout import METRICS, RUN
from distill_jax.config.data import method_in
from distill_jax.errors import UserError
from distill_jax.evaluation.comparison import read_predictions
from distill_jax.experiments.report.runs import RULES, Input, Run, amount
from distill_jax.models.families import make_config
from distill_jax.planning.presets import count

EXPECTED = "the folder of a run or of a sweep, a results.json of a sweep or of the demo, or a file of floors"
WAYS = ("generate", "rank", "constrain")  # in which labels are found, the one to be preferred first
CURVES = ("train/loss", "train/device_seconds", "validation/label_accuracy")  # that the page reads of metrics
# Options that are fields of a `Run`, or say nothing of what was learnt.
_NOT_TOLD = re.compile(
    r"model_dir|seed|data_fraction|num_examples|method|mixture_or_task_name|label_source|.*_period|keep_.*|"
    r"data_dir|eval_.*|train_steps|.*cache.*|module|data|validation_data|test_data|wandb|mlflow"
)


def read(paths: Sequence[str], split: str, label_by: str | None) -> Input:
    """All runs of some inputs.

    Args:
      paths: folders of runs, files of results and of floors.
      split: which evaluation of a run's folder.
      label_by: likewise, of `WAYS`; None for the first that all folders have.

    Raises:
      UserError: for a path that is none of these, and for a run without evaluation, with the command for it.
    """
    paths = [_results_of(path) for path in paths]
    folders = [path for path in paths if pathlib.Path(path).is_dir()]
    for folder in folders:
        if not (pathlib.Path(folder) / RUN).exists():
            inside = sorted(str(path.parent) for path in pathlib.Path(folder).glob(f"*/{RUN}"))
            hint = (
                f": give the folders of runs in it, such as {inside[0]}" if inside else f": expected {EXPECTED}"
            )
            if (pathlib.Path(folder) / "cells").is_dir():
                hint = ": if it is a sweep's, none of its cells is finished yet"
            raise UserError(f"{folder}: not the folder of a run, it has no {RUN}{hint}")
    evaluations = {folder: _evaluations(folder, split) for folder in folders}
    way = label_by or _common_way(evaluations, split)
    found = Input([], [])
    for path in paths:
        more = _folder(path, split, way, evaluations[path]) if path in evaluations else _file(path)
        found.runs.extend(more.runs)
        found.notes.extend(more.notes)
    return found


def _results_of(path: str) -> str:
    """The results.json of a sweep's or the demo's folder; the path itself for any other."""
    folder = pathlib.Path(path)
    results = folder / "results.json"
    return str(results) if results.exists() and not (folder / RUN).exists() else path


def _evaluations(folder: str, split: str) -> dict[tuple[str, int], pathlib.Path]:
    """The files of predictions of a split, by how labels were found and step; float32 weights only."""
    places = {}
    for path in (pathlib.Path(folder) / "eval").glob(f"{split}-*.jsonl"):
        if match := re.fullmatch(rf"(\d+)(?:-({'|'.join(WAYS)}))?", path.stem.removeprefix(f"{split}-")):
            places[match[2] or "generate", int(match[1])] = path
    return places


def _command(folder: str, split: str, way: str) -> str:
    flags = [] if split == "test" else ["--split", split]
    flags += [] if way == "generate" else ["--label-by", way]
    return " ".join(["distill-jax eval", folder, *flags])


def _common_way(evaluations: Mapping[str, Mapping[tuple[str, int], pathlib.Path]], split: str) -> str:
    ways = {folder: {way for way, _ in places} for folder, places in evaluations.items()}
    for folder, own in ways.items():
        if not own:
            raise UserError(f"{folder}: no evaluation of the split {split}: {_command(folder, split, WAYS[0])}")
    common = next((way for way in WAYS if all(way in own for own in ways.values())), None)
    if common is None:
        lacking = next(folder for folder, own in ways.items() if WAYS[0] not in own)
        others = "; ".join(f"{folder}: {', '.join(sorted(own))}" for folder, own in ways.items())
        command = _command(lacking, split, WAYS[0])
        raise UserError(f"the labels of these runs were not found in one way ({others}): {command}")
    return common


def _folder(folder: str, split: str, way: str, evaluations: Mapping[tuple[str, int], pathlib.Path]) -> Input:
    """The run of a folder, at the latest step that was evaluated."""
    steps = [step for found, step in evaluations if found == way]
    if not steps:
        raise UserError(
            f"{folder}: no evaluation of the split {split} by {way}: {_command(folder, split, way)}"
        )
    step, notes = max(steps), []
    others = [
        f"{found} at step {other}" for found, other in sorted(evaluations) if (found, other) != (way, step)
    ]
    if others:
        notes.append(f"{folder}: shown is {way} at step {step}; also evaluated, not shown: {', '.join(others)}")
    evaluated = _metrics(pathlib.Path(folder) / "eval")
    scored = next((line["split"] for line in evaluated if line.get("stands_in_for") == split), split)
    if scored != split:
        notes.append(f"{folder}: shown is {scored}: there is no {split} split")
    config, data = run_dir.read_config(folder) or {}, run_dir.read_data(folder) or {}
    run, network = run_dir.load(folder), None
    if run.model:
        network = count(make_config(run.model))
        family = run.model.get("model_family", "t5")
    rows = read_predictions(str(evaluations[way, step]))
    curve = _metrics(pathlib.Path(folder))
    seconds = [line["train/device_seconds"] for line in curve if "train/device_seconds" in line]
    examples = config.get("num_examples")
    student = Run(
        source=folder,
        method=config.get("method") or method_in(f"_{run.mixture_or_task_name}") or "not known",
        label_source=run.label_source,
        model=f"{family} {amount(network)}" if network else None,
        parameters=network,
        share=None if examples else config.get("data_fraction"),
        train_rows=examples or data.get("examples"),
        seed=run.seed,
        accuracy=sum(row["correct"] for row in rows.values()) / len(rows),
        rows=rows,
        test_rows=len(rows),
        split=scored,
        fingerprint=None,
        teacher_accuracy=_teacher_accuracy(rows),
        learning_rate=config.get("learning_rate"),
        steps=step,
        curve=curve,
        device_seconds=sum(seconds) if seconds else None,
        options={name: value for name, value in config.items() if not _NOT_TOLD.fullmatch(name)},
    )
    return Input([student], notes)


def _teacher_accuracy(rows: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Share of the rows whose label the teacher has right; None where predictions do not say."""
    known = [row["teacher_correct"] for row in rows.values() if "teacher_correct" in row]
    return known.count(True) / len(rows) if known else None


def _metrics(folder: pathlib.Path) -> list[dict[str, Any]]:
    path = folder / METRICS
    if not path.exists():
        return []
    try:  # a last line may be cut short: the run was killed
        lines = [json.loads(line) for line in files.read_text(path).splitlines() if line.endswith("}")]
        if not all(isinstance(line["step"], int) and abs(line["step"]) < _MOST for line in lines):
            raise ValueError("a step is no whole number")
        for value in (line[name] for line in lines for name in CURVES if name in line):
            if not isinstance(value, int | float) or abs(value) > sys.float_info.max:
                raise ValueError(f"expected a number, got {value!r:.40}")
        return lines
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: expected metrics with a `step` in each line: {error!r}") from None


# What the entries of a record have to be, where they are there: their kind, in words, and within which bounds.
_NUMBER, _WHOLE, _MOST = (int, float), int, 1e18
_SHARE = (_NUMBER, "a number", 0, 1)
_COUNT = (_WHOLE, "a whole number", 0, _MOST)
_TEXT = (str, "a text", None, None)
_OBJECT = (dict, "an object", None, None)
_KINDS: dict[str, tuple[Any, str, float | None, float | None]] = {
    **dict.fromkeys(("method", "model", "label_source", "correct", "run", "predictions"), _TEXT),
    **dict.fromkeys(("comparison", "test_fingerprint"), _TEXT),
    **dict.fromkeys(("accuracy", "fraction"), _SHARE),
    **dict.fromkeys(("seconds", "learning_rate"), (_NUMBER, "a number", 0, _MOST)),
    "flops": (_NUMBER, "a number", 0, 1e36),
    **dict.fromkeys(("parameters", "train_examples", "steps"), _COUNT),
    "seed": (_WHOLE, "a whole number", -_MOST, _MOST),
    **dict.fromkeys(("test", "device"), _OBJECT),
}
_TEST_KINDS = {"right": _COUNT, "total": _COUNT, "teacher_accuracy": _SHARE}
_DEVICE_KINDS = {"count": (_WHOLE, "a whole number", 1, _MOST)}
_FLOOR_KINDS = {"share": _SHARE, "train_examples": _COUNT, "rows": _COUNT}


def _check(values: Mapping[str, Any], kinds: Mapping[str, Any], where: str) -> None:
    """Raises UserError for the first entry of another kind, or out of its bounds; null counts as absent."""
    for name, (accepted, expected, low, high) in kinds.items():
        value = values.get(name)
        if value is None:
            continue
        is_kind = isinstance(value, accepted) and not isinstance(value, bool)
        if not is_kind or (low is not None and not low <= value <= high):  # NaN is in no bounds
            bounds = "" if low is None else f" from {low:g} to {high:g}"
            raise UserError(f"{where}{name}: expected {expected}{bounds}, got {value!r:.60}")


def _file(path: str) -> Input:
    """The runs of a sweep's or the demo's results, and of a file of floors."""
    values = files.read_json(path, f"JSON, where {EXPECTED} is expected")
    parts = {name: values.get(name) for name in ("cells", "runs", "floors")} if isinstance(values, dict) else {}
    lists = [part for part in parts.values() if part is not None]
    if not lists or not all(
        isinstance(part, list) and all(isinstance(e, dict) for e in part) for part in lists
    ):
        named = f"an object of {', '.join(values)}" if isinstance(values, dict) else f"{values!r:.40}"
        raise UserError(f"{path}: expected {EXPECTED}; this file has {named}")
    found = Input(_floors(path, parts["floors"] or [], values.get("split")), [])
    cells = [*(parts["cells"] or []), *(parts["runs"] or [])]
    for number, cell in enumerate(cells, 1):
        try:
            _add_cell(found, path, number, cell)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}, run {number}: no record of a sweep or of the demo: {error!r}") from None
    if cells and all(run.is_rule for run in found.runs):
        raise UserError(f"{path}: none of its {len(cells)} runs has an accuracy: finish them first")
    return found


def _floors(path: str, floors: Sequence[Mapping[str, Any]], split: str | None) -> list[Run]:
    """The rules that `experiments.floors` measured."""
    try:
        for number, each in enumerate(floors, 1):
            _check(each, _FLOOR_KINDS, f"{path}, floors {number}: ")
            for name, value in each["accuracies"].items():
                _check(value, {"value": _SHARE}, f"{path}, floors {number}: {name}: ")
        runs = [
            Run(
                source=path,
                method=name,
                accuracy=float(value["value"]),
                share=each["share"],
                train_rows=each["train_examples"],
                test_rows=each["rows"],
                split=split,
            )
            for each in floors
            for name, value in each["accuracies"].items()
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a file of floors: {error!r}") from None
    unknown = {run.method for run in runs} - RULES.keys()
    if unknown:
        raise UserError(f"{path}: unknown rules: {', '.join(sorted(unknown))}")
    return runs


def _add_cell(found: Input, path: str, number: int, cell: Mapping[str, Any]) -> None:
    """Adds a record of a file of results, or the reason why it is not shown."""
    _check(cell, _KINDS, f"{path}, run {number}: ")
    _check(cell.get("test") or {}, _TEST_KINDS, f"{path}, run {number}: test.")
    _check(cell.get("device") or {}, _DEVICE_KINDS, f"{path}, run {number}: device.")
    for name in ("predictions", "run"):
        if cell.get(name) and files.leads_out(cell[name]):
            raise UserError(
                f"{path}, run {number}: {name}: expected a path below this file, got {cell[name]!r:.60}"
            )
    test, correct = cell.get("test") or {}, cell.get("correct")
    if correct is not None and not re.fullmatch("[01]*", correct):
        raise UserError(
            f"{path}, run {number}: correct: expected 0 or 1 for each test row, got {correct!r:.60}"
        )
    if correct and "right" in test and (test["right"], test["total"]) != (correct.count("1"), len(correct)):
        right = f"{correct.count('1')} of {len(correct)}"
        raise UserError(f"{path}, run {number}: test says {test['right']} of {test['total']}, correct {right}")
    if test.get("total") and not test["right"] <= test["total"]:
        raise UserError(f"{path}, run {number}: test: {test['right']:,} right of {test['total']:,}")
    words = [str(cell[name]) for name in ("method", "model", "fraction", "seed") if cell.get(name) is not None]
    where = f"{path}, run {number} ({' '.join(words)})"
    accuracy = test["right"] / test["total"] if test.get("total") else cell.get("accuracy")
    if accuracy is None or not cell.get("method"):
        found.notes.append(f"{where} is not shown: {cell.get('error') or 'it has no accuracy'!s:.200}")
        return
    beside, rows = pathlib.Path(path).parent, None
    if predictions := cell.get("predictions"):
        if (beside / predictions).exists():
            rows = read_predictions(str(beside / predictions))
        else:
            found.notes.append(f"{where}: no predictions at {predictions}: only its figures are shown")
    seconds, devices = cell.get("seconds"), (cell.get("device") or {}).get("count", 1)
    budget = cell.get("comparison")
    run = Run(
        source=where,
        method=cell["method"],
        accuracy=float(accuracy),
        more=budget if budget != "no student" else None,
        label_source=cell.get("label_source") or "reference",
        model=cell.get("model"),
        parameters=cell.get("parameters"),
        share=cell.get("fraction"),
        train_rows=cell.get("train_examples"),
        seed=cell.get("seed", 0),
        correct=tuple(char == "1" for char in correct) if isinstance(correct, str) else None,
        rows=rows,
        test_rows=len(correct) if isinstance(correct, str) else test.get("total"),
        fingerprint=cell.get("test_fingerprint"),
        teacher_accuracy=test.get("teacher_accuracy"),
        learning_rate=cell.get("learning_rate"),
        steps=cell.get("steps"),
        curve=_metrics(beside / cell["run"]) if cell.get("run") else [],
        flops=cell.get("flops"),
        device_seconds=None if seconds is None else seconds * devices,
    )
    found.runs.append(run)
