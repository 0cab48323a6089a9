"""The YAML file of a sweep, read and checked, as cells in the order in which they are to run.

The key that comes first in the file varies slowest. `grids` is a list of parts that run one after the other,
each with keys of its own in place of the file's; a cell that comes twice runs once.
"""

import dataclasses
import itertools
import math
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distill_jax.config import (
    DataOptions,
    EvalConfig,
    Options,
    Sources,
    TrainConfig,
    build,
    gin_files,
    yaml_files,
)
from distill_jax.config.data import METHODS
from distill_jax.config.options import check, nearest, parse
from distill_jax.config.training import ONLY_OF
from distill_jax.config.trust import refuse_guarded
from distill_jax.data.prepare import hash_of
from distill_jax.errors import UserError
from distill_jax.tasks import registry
from distill_jax.tasks.resolve import resolve

# Key of the file -> the option of `TrainConfig` that each of its values is.
AXES = {"methods": "method", "models": "", "fractions": "data_fraction", "label_sources": "label_source"}
AXES |= {"seeds": "seed"}
OF_A_GRID = {**dict.fromkeys(AXES, list), "models": (list, dict), "search": dict, "train": dict}
OF_A_GRID |= {"by_method": dict, "steps": (int, dict), "epochs": (int, float)}
KEYS = {**OF_A_GRID, "task": str, "eval": dict, "grids": list, "keep_checkpoints": bool, "slurm": dict}
# Only the last checkpoint is scored, and a stopped run needs no more to resume.
DEFAULTS = {"eval_period": 0, "keep_checkpoints": 1, "keep_best_checkpoints": 0}
# How a run is carried out: with another value a cell is the same.
NO_CONTENT = {"log_period", "checkpoint_period", "keep_checkpoints", "keep_best_checkpoints", "loss_chunk"}
NO_CONTENT |= {"microbatches", "mesh", "partitioning", "check_memory", "max_skipped_steps", "data_dir", "trust"}
# A few lines of lists can multiply to billions.
MOST_CELLS = MOST_POINTS = 10_000
MOST_NAME = 100  # bytes of a model's name, which is part of a folder's
OF_THE_SWEEP = {"model_dir", "trust", "mixture_or_task_name", "epochs", *AXES.values()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One student: all that its folder is named by.

    Attributes:
      name: of its folder: words to read, and a hash of its content.
      model: as the file calls it.
      gin: the file of gin_configs/models that it is; None where the file gives its options alone.
      options: of `TrainConfig`, as the file has them; a text is read as a flag's.
      search: option -> values to choose from on the validation split; empty where there is nothing to choose.
      epochs: over the packed rows, in place of `train_steps`; None for these.
      evaluation: options of `EvalConfig`.
      keep_checkpoints: keep that of the chosen student once it is scored.
    """

    name: str = ""
    model: str
    gin: str | None
    options: Mapping[str, Any]
    search: Mapping[str, tuple]
    epochs: float | None
    evaluation: Mapping[str, Any]
    keep_checkpoints: bool

    def config(self, **changes: Any) -> TrainConfig:
        """The configuration of a run; raises UserError for a value that an option cannot have."""
        return build(TrainConfig, Sources(model=self.gin), self.options, **changes)

    def points(self) -> list[dict[str, Any]]:
        """The values of the searched options of each run, in the order of the file."""
        return [
            dict(zip(self.search, values, strict=True)) for values in itertools.product(*self.search.values())
        ]

    def place(self) -> dict[str, Any]:
        """Where in the grid it is, as its record says it."""
        config = self.config()
        return {
            "method": config.method_name,
            "model": self.model,
            "fraction": config.data_fraction,
            "label_source": config.label_source,
            "seed": config.seed,
        }

    def named(self, known: dict[tuple, list[str] | None]) -> "Cell":
        """With its name; `known` has what is in own data that was looked at before."""
        config = self.config()
        content = {name: getattr(config, name) for name in self.options if name not in NO_CONTENT}
        scored = {name: value for name, value in self.evaluation.items() if name != "batch_size"}
        rows = _rows_of(config, known)
        key = hash_of([self.gin, content, self.epochs, scored, *([] if rows is None else [rows])])
        words = [config.method_name, self.model, f"{config.data_fraction:g}"]
        words += [config.label_source] if config.label_source != "reference" else []
        name = "-".join([*words, f"seed{config.seed}", key[:6]])
        return dataclasses.replace(self, name=re.sub(r"[^\w.-]+", "_", name))


def _rows_of(config: TrainConfig, known: dict[tuple, list[str] | None]) -> list[str] | None:
    """Fingerprints of the splits of own data, so that other rows in the same file are another cell.

    None for a task's rows, for a source that is no file of this machine, and where a file cannot be read: then
    nothing runs, see `sources.check`.
    """
    if not config.data or not os.path.exists(config.data):
        return None
    key = tuple(str(getattr(config, name)) for name in DataOptions.options())
    if key not in known:
        try:
            source = resolve(config).task.source
            known[key] = [source.fingerprint(split) for split in ("train", "validation", "test")]
        except UserError:
            known[key] = None
    return known[key]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A file: its cells in the order of running, and the arguments of submitit's `update_parameters`."""

    cells: tuple[Cell, ...]
    slurm: Mapping[str, Any]

    def cell(self, name: str) -> Cell:
        """The cell of a name; raises UserError when there is none."""
        by_name = {cell.name: cell for cell in self.cells}
        if name not in by_name:
            raise UserError(f"--cell {name}: no such cell in the file; {nearest(name, by_name)}")
        return by_name[name]


def read(path: str, trust: bool = False) -> Sweep:
    """Reads a sweep's file.

    Raises:
      UserError: for a key, option, method, model or task that there is not, with the nearest that there is,
        for a value of another kind or outside its range, and for one that counts only with `trust`.
    """
    found = yaml_files.read(path)
    try:
        _check_keys(found, KEYS, "the file")
        grids = found.pop("grids", [{}])
        for grid in grids:
            _check_keys(grid, OF_A_GRID, "grids")
        grids = [{**found, **grid} for grid in grids]
        _check_axes(grids)
        _check_by_method(grids)
        known: dict[tuple, list[str] | None] = {}
        cells = {cell.name: cell for grid in grids for cell in _cells(grid, trust, known)}
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return Sweep(tuple(cells.values()), found.get("slurm", {}))


def _check_keys(found: Any, known: Mapping[str, Any], where: str) -> None:
    if not isinstance(found, dict):
        raise UserError(f"{where}: expected keys with values, such as `seeds: [0, 1, 2]`")
    for key, value in found.items():
        if key not in known:
            if key in TrainConfig.options().keys() - OF_THE_SWEEP:
                raise UserError(f"no key {key!r}: it is an option of training: write it under `train`")
            raise UserError(f"no key {key!r}: {nearest(str(key), known)}")
        kinds = known[key] if isinstance(known[key], tuple) else (known[key],)
        if not isinstance(value, kinds) or value == [] or (isinstance(value, bool) and bool not in kinds):
            words = {list: "a list", dict: "keys with values", int: "a number", float: "a number"}
            expected = dict.fromkeys(words.get(kind, kind.__name__) for kind in kinds)
            raise UserError(f"{key}: expected {' or '.join(expected)}, got {value!r:.60}")


def _check_axes(grids: Sequence[Mapping[str, Any]]) -> None:
    """Raises UserError for values that the options cannot have, and for more cells than anybody can run."""
    for grid in grids:
        for axis in AXES.keys() & grid.keys():
            _values(axis, grid[axis])
    count = sum(math.prod(len(grid[axis]) for axis in AXES.keys() & grid.keys()) for grid in grids)
    if count > MOST_CELLS:
        raise UserError(f"{count:,} cells: at most {MOST_CELLS:,}: leave some out, or make several files of it")


def _check_by_method(grids: Sequence[Mapping[str, Any]]) -> None:
    """Raises UserError for options of a method that is in no part of the file: they would change nothing."""
    methods = dict.fromkeys(method for grid in grids for method in grid.get("methods", ()))
    for method in (method for grid in grids for method in grid.get("by_method", {})):
        if methods and method not in methods:
            raise UserError(f"by_method: {method!r} is not among the methods: {nearest(str(method), methods)}")


def _cells(grid: Mapping[str, Any], trust: bool, known: dict[tuple, list[str] | None]) -> Iterator[Cell]:
    if "methods" not in grid:
        raise UserError(f"no key 'methods': which of {', '.join(METHODS)}")
    if {"steps", "epochs"} <= grid.keys():
        raise UserError("give steps or epochs, not both")
    if "epochs" in grid:
        _value("epochs", grid["epochs"])
    models, train, by_method = _models(grid), grid.get("train", {}), grid.get("by_method", {})
    _check_options(TrainConfig, train, "train")
    for method, options in by_method.items():
        _check_options(TrainConfig, options, f"by_method, {method}")
        if both := sorted(options.keys() & grid.get("search", {}).keys()):
            raise UserError(f"by_method, {method}: {both[0]} is searched too: give it in one of both")
    evaluation = {"rationale": False, **grid.get("eval", {})}
    _check_options(EvalConfig, evaluation, "eval")
    build(EvalConfig, texts=evaluation, model_dir="")
    _check_options(TrainConfig, grid.get("search", {}), "search")
    if not trust:
        shapes = {f"models, {name}": shape for name, (_, shape) in models.items()}
        for where, given in {"train": train, "search": grid.get("search", {}), **shapes, **by_method}.items():
            refuse_guarded(given, dict.fromkeys(given, where), TrainConfig.options())
    if "task" in grid:
        registry.get_task(grid["task"], train.get("module"))
    values = {"fractions": [1.0], "label_sources": ["reference"], "seeds": [0], **grid, "models": list(models)}
    axes = [*(name for name in grid if name in AXES), *(name for name in AXES if name not in grid)]
    for chosen in itertools.product(*(_values(name, values[name]) for name in axes)):
        place = dict(zip(axes, chosen, strict=True))
        gin, shape = models[place["models"]]
        options = {"mixture_or_task_name": grid.get("task"), "trust": trust, **DEFAULTS, **train}
        if "steps" in grid:
            options["train_steps"] = _steps(grid["steps"], place["fractions"])
        options |= shape | by_method.get(place["methods"], {})
        options |= {AXES[name]: value for name, value in place.items() if AXES[name]}
        yield Cell(
            model=place["models"],
            gin=gin,
            options=options,
            search=_search(grid.get("search", {}), place["methods"]),
            epochs=grid.get("epochs"),
            evaluation=evaluation,
            keep_checkpoints=grid.get("keep_checkpoints", True),
        ).named(known)


def _check_options(cls: type[Options], options: Any, where: str) -> None:
    if not isinstance(options, dict):
        raise UserError(f"{where}: expected options with values, such as `batch_size: 16`")
    known = cls.options().keys() - (OF_THE_SWEEP | {"split", "step", "eval_output_dir", "compare_weights"})
    for name in options:
        if name not in known:
            raise UserError(f"{where}: no option {name!r}: {nearest(str(name), known)}")


def _models(grid: Mapping[str, Any]) -> dict[str, tuple[str | None, dict[str, Any]]]:
    """name -> (file of gin_configs/models, options); the option `model` names a file that others change."""
    given, found = grid.get("models", ["t5_1_1/small"]), {}
    if not given:
        raise UserError("models: expected one or more")
    for name, options in given.items() if isinstance(given, dict) else ((name, None) for name in given):
        if not isinstance(name, str) or not 0 < len(name.encode(errors="replace")) <= MOST_NAME:
            raise UserError(f"models: expected names of up to {MOST_NAME} bytes, got {name!r:.60}")
        if not isinstance(options, dict | None):
            raise UserError(f"models, {name}: expected options with values, such as `emb_dim: 256`")
        known = gin_files.models()
        options = {"model": name} if options is None else dict(options)
        gin = options.pop("model", None)
        if not isinstance(gin, str | None):
            raise UserError(f"models, {name}: model: expected a text, got {gin!r:.60}")
        if gin is not None and gin not in known and f"t5_1_1/{gin}" not in known:
            raise UserError(f"models: no model {gin!r}: {gin_files.nearest_model(str(gin))}")
        _check_options(TrainConfig, options, f"models, {name}")
        found[name] = gin, options
    return found


def _value(name: str, value: Any) -> Any:
    field = TrainConfig.options()[name]
    return parse(field, value) if isinstance(value, str) else check(field, value)


def _values(axis: str, values: Any) -> list[Any]:
    return [_value(AXES[axis], value) if AXES[axis] else value for value in values]


def _steps(steps: int | Mapping[Any, int], fraction: float) -> int:
    if isinstance(steps, int):
        return steps
    if fraction not in steps:
        raise UserError(f"steps: none for the share {fraction:g}; there are: {', '.join(map(str, steps))}")
    return steps[fraction]


def _search(search: Mapping[str, Any], method: str) -> dict[str, tuple]:
    for name, values in search.items():
        if not isinstance(values, list) or not values:
            raise UserError(f"search: {name}: expected a list of values, got {values!r:.60}")
    own = {name: values for name, values in search.items() if method in ONLY_OF.get(name, METHODS)}
    if (count := math.prod(map(len, own.values()))) > MOST_POINTS:
        raise UserError(f"search: {count:,} runs in a cell: at most {MOST_POINTS:,}")
    return {name: tuple(_value(name, value) for value in values) for name, values in own.items()}


def folder_of(cell: Cell, root: pathlib.Path) -> pathlib.Path:
    """The folder of a cell."""
    return root / "cells" / cell.name


def run_of(values: Mapping[str, Any]) -> str:
    """The folder of a run within its cell's, by the values that are searched.

    Values that cannot be part of a name, such as a path, are cut and told apart by a hash.
    """
    name = ",".join(f"{name}={value}" for name, value in values.items()) or "run"
    if not re.search(r"[/\0\ud800-\udfff]", name) and len(os.fsencode(name)) <= 2 * MOST_NAME:
        return name
    return f"{re.sub(r'[^a-zA-Z0-9_.,=-]+', '_', name)[:MOST_NAME]}-{hash_of(dict(values))[:6]}"
