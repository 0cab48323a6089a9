"""A run's folder: what the run is, written once, so that eval and infer need nothing but the folder."""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

from flax import traverse_util

from distill_jax import files
from distill_jax.checkpoints.layout import CHECKPOINTS, CONFIG, DATA, HEADER, LOCK, RUN, require_run
from distill_jax.config import Options, PrepareConfig, PretrainConfig, TrainConfig
from distill_jax.config.json_types import require, require_known
from distill_jax.config.options import check
from distill_jax.data.records import MANIFEST
from distill_jax.data.vocabularies import Vocabulary, load_vocabulary
from distill_jax.errors import UserError
from distill_jax.models.families import check_fields
from distill_jax.tasks.own import Description

_FOLDER = TrainConfig.named("model_dir")
_ANEW = "delete this file: train writes it again"


class LoraDescription(TypedDict):
    """Adapters: the fields of `models.lora.Lora`, the model beneath them, and the hash of its parameters."""

    rank: int
    alpha: float
    targets: list[str]
    base: str
    fingerprint: str


@dataclasses.dataclass(frozen=True)
class Run:
    """Identity of a run: two runs with the same one may share a folder (the second resumes).

    `model` is of `models.families.describe`; `vocabulary` is the fingerprint of the vocabulary saved beside
    `run.json`; `data` is the key of the prepared records; `own_data` describes files that are no registered
    task, see `data.own.describe`; `lora` describes the adapters that are trained, and the base they belong to,
    see `training.adapters.Base`.
    """

    mixture_or_task_name: str
    label_source: str
    module: str | None
    task_feature_lengths: dict[str, int]
    vocabulary: str
    data: str
    model: dict[str, Any]
    batch_size: int
    seed: int
    view_weights: dict[str, float]
    objective: str = "CrossEntropy()"
    teacher: str | None = None
    own_data: Description | None = None
    teacher_name: str | None = None
    lora: LoraDescription | None = None
    format: int = 1


def _path(model_dir: str) -> pathlib.Path:
    return pathlib.Path(model_dir) / RUN


@contextlib.contextmanager
def owned(model_dir: str) -> Iterator[None]:
    """Makes this process the only one that trains the run of a folder, which it makes where there is none.

    A process that has died owns nothing. Raises UserError when another process trains it.
    """
    _require_local(model_dir)
    path = pathlib.Path(model_dir) / LOCK
    with files.disk_errors(path, f"choose another {_FOLDER}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    with file:
        files.lock(
            file, model_dir, f"another process trains this run: wait for it, or choose another {_FOLDER}"
        )
        yield


def _require_local(model_dir: str) -> None:
    if "://" in model_dir:
        raise UserError(f"{_FOLDER} {model_dir}: expected a folder: mount the bucket, such as with gcsfuse")


def claim(model_dir: str, run: Run, config: Options | None = None) -> None:
    """Writes `run.json`, or checks that the folder holds the same run.

    Options of `config` that are part of a run's identity must be those of `config.json`. Raises UserError when
    the folder holds another run; names the fields and options that differ.
    """
    path = _path(model_dir)
    _require_local(model_dir)
    if path.exists():
        differing = _differing(model_dir, run, config)
        if differing:
            raise UserError(
                f"{path}: the folder holds a different run ({'; '.join(differing)}): choose another "
                f"{_FOLDER}, or delete this folder"
            )
        return
    if other := next((name for name in (CHECKPOINTS, CONFIG, DATA) if (path.parent / name).exists()), None):
        raise UserError(f"{model_dir} holds {other} but no run.json: choose another {_FOLDER}")
    files.write_text(path, json.dumps(dataclasses.asdict(run), indent=2) + "\n")


def _differing(model_dir: str, run: Run, config: Options | None) -> list[str]:
    """The options and fields that differ from the folder's, each once; an option speaks for its field."""
    before, options = ({}, {}) if config is None else (read_config(model_dir) or {}, config.identity())
    changes = {name: (before[name], now) for name, now in options.items() if name in before}
    changes = {name: pair for name, pair in changes.items() if not _same(*pair)}
    runs = [json.loads(json.dumps(dataclasses.asdict(each))) for each in (load(model_dir), run)]
    old, new = (traverse_util.flatten_dict(fields, sep=".") for fields in runs)
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            changes.setdefault(name, (old.get(name), new.get(name)))
    return [f"{name} was {was!r}, now {now!r}" for name, (was, now) in changes.items()]


def _same(before: Any, now: Any) -> bool:
    """Whether two values of an option are equal; a path counts the same from wherever it is named."""
    if isinstance(before, str) and isinstance(now, str):
        return before == now or os.path.abspath(before) == os.path.abspath(now)
    return json.loads(json.dumps(before)) == json.loads(json.dumps(now))


def write_config(model_dir: str, config: Options) -> None:
    """Writes `config.json`: `distill-jax train --config MODEL_DIR` takes it to run the same again."""
    text = json.dumps(config.to_json() | config.identity(), indent=2, ensure_ascii=False)
    files.write_text(pathlib.Path(model_dir) / CONFIG, text + "\n")


def read_config(model_dir: str) -> dict[str, Any] | None:
    """The options in `config.json`; None where a run has none.

    Raises UserError when it is no JSON object, or the value of an option is none that it can have.
    """
    path, options = pathlib.Path(model_dir) / CONFIG, PretrainConfig.options() | TrainConfig.options()
    values = _read_object(path)
    for name in options.keys() & (values or {}).keys():
        try:
            check(options[name], values[name])
        except UserError as error:
            raise UserError(f"{path}: {error}: {_ANEW}") from None
    return values


def write_data(model_dir: str, manifest: Mapping[str, Any]) -> None:
    """Writes `data.json`, the manifest of the prepared records: they are in a cache, which may be emptied."""
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    files.write_text(pathlib.Path(model_dir) / DATA, text + "\n")


def write_header(model_dir: str, lines: Mapping[str, str]) -> None:
    """Writes `header.json`, what the run said when it was last started."""
    text = json.dumps(lines, indent=2, ensure_ascii=False)
    files.write_text(pathlib.Path(model_dir) / HEADER, text + "\n")


def read_data(model_dir: str) -> dict[str, Any] | None:
    """What is there of the manifest in `data.json`; None where a run has none.

    Raises UserError when it is no JSON object, or an entry is of another kind than in `records.MANIFEST`.
    """
    path = pathlib.Path(model_dir) / DATA
    values = _read_object(path)
    try:
        require_known(values or {}, MANIFEST, partial=True)
    except UserError as error:
        raise UserError(f"{path}: {error}: {_ANEW}") from None
    return values


def _read_object(path: pathlib.Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"expected a JSON object, got {values!r:.40}")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read: {error}: {_ANEW}") from None
    return values


def fingerprint(model_dir: str) -> str:
    """Hash of `run.json`: tells runs apart that had the same folder one after the other."""
    return hashlib.sha256(_path(model_dir).read_bytes()).hexdigest()[:16]


def load(model_dir: str) -> Run:
    """Reads `run.json`.

    Raises:
      UserError: when there is none, or it is not whole: names the first entry that is missing, of another kind
        or out of range.
    """
    require_run(model_dir)
    path = _path(model_dir)
    try:
        values = json.loads(files.read_text(path))
    except (ValueError, RecursionError) as error:
        raise _no_run(path, error) from None
    try:
        require(values, Run)
        run = Run(**values)
        if run.lora is not None and run.lora["rank"] < 1:
            raise UserError(f"lora.rank: expected 1 or more, got {run.lora['rank']}")
        check(PrepareConfig.options()["task_feature_lengths"], run.task_feature_lengths)
        check_fields(run.model)
    except UserError as error:
        raise _no_run(path, error) from None
    return run


def _no_run(path: pathlib.Path, error: Exception) -> UserError:
    return UserError(f"{path}: not a run description of this version: {error}: put a copy of the file back")


def vocabulary_of(model_dir: str, run: Run) -> Vocabulary:
    """The vocabulary in the folder of a run; raises UserError when it cannot be read, or is not the run's."""
    found = load_vocabulary(model_dir)
    if run.vocabulary and found.fingerprint != run.vocabulary:  # a converted run may have been made without
        raise UserError(
            f"{model_dir}: another vocabulary than that of the run: its fingerprint is {found.fingerprint}, "
            f"{RUN} has {run.vocabulary}: put a copy of the run's vocabulary.json and the file beside it back"
        )
    return found
