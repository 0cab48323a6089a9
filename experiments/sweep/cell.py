"""One cell: trains a student with each of the searched values, and scores the best on test.

The files of a cell's folder, each of them written whole or not at all:

- `VALUES/`: the run with these values, such as `learning_rate=0.001,alpha=0.5/`, or `run/` without a search;
  in it `validation.json` and `test.json`, its figures, and `seconds.json`.
- `result.json`: the cell's record; the cell is finished where it is of the values that the file searches.
- `lock`: held by the process that runs the cell, and free again when that is gone.
"""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import jax
from filelock import FileLock

import distill_jax
from distill_jax import files
from distill_jax.checkpoints import run_dir
from distill_jax.checkpoints.layout import CHECKPOINTS
from distill_jax.checkpoints.orbax import latest_step
from distill_jax.config import EvalConfig, SweepConfig, TrainConfig, build
from distill_jax.config.json_types import require_known
from distill_jax.data.prepare import hash_of
from distill_jax.data.sources import read_jsonl
from distill_jax.decoding.student import load_student
from distill_jax.errors import UserError
from distill_jax.evaluation.run import evaluate_run
from distill_jax.experiments.sweep import grid
from distill_jax.experiments.sweep.grid import Cell
from distill_jax.experiments.sweep.results import RESULT, read_result
from distill_jax.tasks.resolve import resolve
from distill_jax.training import train_state
from distill_jax.training.build import Run
from distill_jax.training.build import build as build_run
from distill_jax.training.listener import Listener
from distill_jax.training.programs import keep_compiled


def run_alone(config: SweepConfig) -> None:
    """Runs the cell that `config.cell` names, in this process, whose programs the other cells take.

    When the process that started this one ends, however that is, this one saves and stops.
    """
    threading.Thread(target=_stop_after, args=(os.getppid(),), daemon=True).start()
    keep_compiled()
    run(grid.read(config.file, config.trust).cell(config.cell), config.folder)


def _stop_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def run(cell: Cell, root: pathlib.Path) -> dict[str, Any]:
    """Runs what is missing of a cell; its record, see `record`.

    It waits for another process that runs the cell.

    Raises:
      UserError: see `distill_jax.train` and `evaluate_run`.
      Preempted: when told to stop.
    """
    folder = grid.folder_of(cell, root)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        if (found := read_result(cell, root)) is not None:
            return found
        config = cell.config(model_dir=str(folder / "run"))
        if config.train_steps is None or cell.epochs is not None:
            config = build_run(dataclasses.replace(config, epochs=cell.epochs)).config  # by the prepared rows
        steps = config.train_steps
        task = resolve(config).task
        runs: list[tuple[float, TrainConfig, dict[str, Any]]] = []
        for values in cell.points():
            config = cell.config(model_dir=str(folder / grid.run_of(values)), train_steps=steps, **values)
            figures = _score(cell, config, "validation")
            metrics = {name: value for name, value in figures.items() if isinstance(value, float)}
            if (score := task.best_by(metrics)) is None:
                raise UserError(f"task {task.name}: no row of validation has a label to choose a run by")
            del figures["correct"]  # the record has the test rows' alone
            runs.append((score[1], config, {"values": values, "validation": figures}))
            best = max(runs, key=lambda each: each[0])  # of equal ones the first
            for each in runs:
                if each is not best:
                    _drop_checkpoints(each[1])
        _, config, _ = best
        result = record(cell, config, _score(cell, config, "test"), [each for _, _, each in runs], folder)
        files.write_text(folder / RESULT, json.dumps(result, indent=2, allow_nan=False) + "\n")
        if not cell.keep_checkpoints:
            _drop_checkpoints(config)
        return result


def _read(path: pathlib.Path, kinds: Mapping[str, Any]) -> dict[str, Any] | None:
    """The object of a cell's file, with these entries; None where there is none, or a damaged one, told."""
    if not path.exists():
        return None
    try:
        found = files.read_json(path)
        require_known(found, kinds)
        return found
    except UserError as error:
        reason = str(error).removeprefix(f"{path}: ")
        print(f"{path}: damaged ({reason:.120}): it is made again", file=sys.stderr)
        return None


def _drop_checkpoints(config: TrainConfig) -> None:
    shutil.rmtree(pathlib.Path(config.model_dir) / CHECKPOINTS, ignore_errors=True)


class _Clock(Listener):
    """Adds up the seconds of a run over its restarts; tells of its steps."""

    def __init__(self, path: pathlib.Path):
        self._path = path
        self.before = _read(path, dict.fromkeys(_CLOCKS, float)) or dict.fromkeys(_CLOCKS, 0.0)
        self._began = {name: clock() for name, clock in _CLOCKS.items()}

    def begin(self, run: Run, step: int) -> None:
        self._steps = run.config.train_steps

    def train(self, step: int, metrics: Mapping[str, float], speed: float, left: float) -> None:
        spent = {
            name: round(self.before[name] + clock() - self._began[name], 2) for name, clock in _CLOCKS.items()
        }
        files.write_text(self._path, json.dumps(spent))
        print(f"step {step}/{self._steps}  loss {metrics['loss']:.3f}  {left:.0f} s left", flush=True)


_FIGURES = {"correct": str, "fingerprint": str, "predictions": str, "right": int, "total": int}
_CLOCKS = {"seconds": time.monotonic, "processor_seconds": time.process_time}


def _score(cell: Cell, config: TrainConfig, split: str) -> dict[str, Any]:
    """The figures of a run on a split; trains it first, as far as it is not trained."""
    folder = pathlib.Path(config.model_dir)
    path = folder / f"{split}.json"
    if (known := _read(path, _FIGURES)) is not None:
        return known
    if latest_step(config.model_dir) != config.train_steps:
        print(f"{folder.parent.name} {folder.name}", flush=True)
        distill_jax.train(config, listener=_Clock(folder / "seconds.json"))
    options = {"model_dir": config.model_dir, "split": split, "data_dir": config.data_dir}
    options["trust"] = config.trust
    if split == "validation":
        options["rationale"] = False  # the choice is by the labels
    evaluated = evaluate_run(build(EvalConfig, texts=cell.evaluation, **options))
    rows = [row for _, row in read_jsonl(evaluated.predictions)]
    figures = evaluated.results[-1] | {
        "correct": "".join(str(int(row["correct"])) for row in rows if "correct" in row),
        "fingerprint": hash_of([[row["id"], row["input"], row["label"]] for row in rows]),
        "predictions": evaluated.predictions.name,
    }
    figures |= {"right": figures["correct"].count("1"), "total": len(figures["correct"])}
    if split == "test" and not figures["total"]:
        raise UserError(f"task {evaluated.title}: no row has a reference label to score by")
    files.write_text(path, json.dumps(figures, indent=2) + "\n")
    return figures


def record(
    cell: Cell, config: TrainConfig, test: dict[str, Any], runs: list[dict[str, Any]], folder: pathlib.Path
) -> dict[str, Any]:
    """A cell's entry of results.json: docs/sweep.md says what is in it."""
    run, places = pathlib.Path(config.model_dir), [folder / grid.run_of(each["values"]) for each in runs]
    model = load_student(config.model_dir, config.data_dir, config.trust).model
    shapes = jax.eval_shape(lambda: train_state.init_params(model, 0))
    spent = [_Clock(place / "seconds.json").before for place in places]
    (chosen,) = [place for place, each in enumerate(runs) if places[place] == run]
    data, devices = run_dir.read_data(config.model_dir), jax.devices()
    inside = run.relative_to(folder.parents[1])
    return {
        "name": cell.name,
        "task": resolve(config).task.name,
        **cell.place(),
        "train_examples": data["examples"],
        "train_rows": data["rows"],
        "batch_size": run_dir.load(config.model_dir).batch_size,
        "steps": config.train_steps,
        "learning_rate": config.peak_learning_rate,
        "chosen": runs[chosen]["values"],
        "validation": runs[chosen]["validation"],
        "correct": test.pop("correct"),
        "test": test,
        "search": runs,
        **spent[chosen],
        "search_seconds": round(sum(each["seconds"] for each in spent), 2),
        "device": {"kind": devices[0].device_kind, "platform": devices[0].platform, "count": len(devices)},
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(shapes)),
        "test_fingerprint": test["fingerprint"],
        "run": str(inside),
        "predictions": str(inside / "eval" / test["predictions"]),
    }
