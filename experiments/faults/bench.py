"""What faults are injected into: a trained run of the tiniest student, its cache, and the commands on them."""

import collections
import hashlib
import json
import os
import pathlib
import shutil
import signal
import urllib.request
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from distill_jax import files
from distill_jax.checkpoints.layout import LOADER, METRICS, STATE, checkpoints_of
from distill_jax.checkpoints.orbax import step_folders
from distill_jax.experiments.faults.commands import Command, Outcome
from distill_jax.experiments.faults.main import CACHE
from distill_jax.experiments.faults.teacher import CLASSES

STEPS, MORE = 6, 9  # of the run that is there; of a `train` that goes on with it
PERIOD = 3  # steps between checkpoints
TASK = "entailment_step_by_step"
STUDENT = f"""
include 'recipes/step_by_step.gin'
include 'models/t5_1_1/tiny.gin'
INITIAL_CHECKPOINT_PATH = 'none'
VOCABULARY = 'bytes'
EMB_DIM = 16
NUM_HEADS = 2
NUM_ENCODER_LAYERS = 1
NUM_DECODER_LAYERS = 1
HEAD_DIM = 8
MLP_DIM = 32
DROPOUT_RATE = 0.0
MIXTURE_OR_TASK_NAME = '{TASK}'
TASK_FEATURE_LENGTHS = {{'inputs': 112, 'targets': 40}}
SCHEDULE = 'constant'
LEARNING_RATE = 1e-3
NUM_EXAMPLES = 64
BATCH_SIZE = 4
LOG_PERIOD = 1
EVAL_PERIOD = 0
CHECKPOINT_PERIOD = {PERIOD}
"""
COMMANDS = ("prepare", "train", "eval", "infer", "serve", "convert")
TEXTS = [f"Premise: Ada has {n} cats. Hypothesis: Ada has an animal." for n in range(60)]
LONG = "-of-a-long-name" * 120  # of the ids of these, so that all that is made of them fills pages of a disk
REMADE = {"prepare": "cache", "train": "run"}  # what a command makes of nothing
_TIMES = ("seconds", "tokens_per_second")  # of the metrics, no two runs have the same

Results = dict[str, str]  # by name, a checksum of each thing that a command made


class Bench:
    """A folder for faults: `base/` is the place that nothing has disturbed; `copy` makes others of it.

    A place has the folder of a run, `run/`, and what is prepared for it, `cache/`.
    """

    def __init__(self, work: pathlib.Path):
        self.work = work.absolute()
        self.gin, self.inputs = self.work / "student.gin", self.work / "inputs.jsonl"
        self.base, self.cache = self.work / "base", self.work / CACHE
        self.teacher = ""  # the address of one, while a part runs it
        self._logs = 0
        self.work.mkdir(parents=True, exist_ok=True)
        (self.work / "logs").mkdir(exist_ok=True)
        self._lock = (self.work / "lock").open("a")
        files.lock(self._lock, self.work, "another process works here: wait for it, or choose another")
        self.gin.write_text(STUDENT)
        rows = ({"id": f"{number}{LONG}", "input": text} for number, text in enumerate(TEXTS))
        self.inputs.write_text("".join(json.dumps(row) + "\n" for row in rows))
        if not (self.work / "made").exists():
            shutil.rmtree(self.base, ignore_errors=True)
            (self.base / "cache").mkdir(parents=True)
            outcome = self.run(self.words("train", self.base, steps=STEPS), self.base)
            if outcome.status:
                raise SystemExit(f"error: the run to damage was not trained: {outcome.err}")
            (self.work / "made").touch()

    def copy(self, name: str, root: pathlib.Path | None = None) -> pathlib.Path:
        """A new place that is as the base."""
        place = (root or self.work) / name
        shutil.rmtree(place, ignore_errors=True)
        return shutil.copytree(self.base, place)

    def fresh(self, command: str, name: str, root: pathlib.Path | None = None) -> pathlib.Path:
        """A new place for a command, without what it is to make."""
        place = self.copy(name, root)
        if command in REMADE:
            shutil.rmtree(place / REMADE[command])
            (place / "cache").mkdir(exist_ok=True)
        return place

    def words(self, command: str, place: pathlib.Path, steps: int = MORE) -> list[str]:
        """Of a command, with what it reads and writes at a place."""
        run, student = str(place / "run"), f"--gin_file={self.gin}"
        return {
            "prepare": ["prepare", TASK, "--init", "none", "--vocabulary", "bytes"]
            + ["--lengths", "inputs=112,targets=40", "--num-examples", "64"],
            "train": ["train", student, f"--gin.MODEL_DIR={run}", f"--gin.TRAIN_STEPS={steps}"],
            "eval": ["eval", run, "--eval-examples", "160", "--batch-size", "32"],
            "infer": ["infer", run, "--input", str(self.inputs), "--output", f"{place}/out.jsonl"]
            + ["--batch-size", "1"],
            "serve": ["serve", run, "--port", "0", "--warm-up", "0", "--batch-size", "8"],
            "convert": ["convert", run, f"{place}/converted", "--to", "huggingface"],
            "export": ["export", run, "--output", f"{place}/exported"],
            "select": ["select", str(self.inputs), "--count", "50", "--run", run]
            + ["--output", f"{place}/chosen.jsonl"],
            "annotate": ["annotate", str(self.inputs), "--base-url", self.teacher, "--model", "m"]
            + ["--store", f"{place}/store.jsonl", "--output", f"{place}/annotated.jsonl"]
            + ["--classes", ",".join(CLASSES), "--concurrency", "4"],
        }[command]

    def start(self, words: list[str], place: pathlib.Path, output: pathlib.Path | None = None) -> Command:
        """Starts a command whose cache is the place's."""
        self._logs += 1
        self.cache.unlink(missing_ok=True)
        self.cache.symlink_to(place / "cache")
        return Command(words, self.work / "logs" / f"{os.getpid()}-{self._logs}", output)

    def run(self, words: list[str], place: pathlib.Path, output: pathlib.Path | None = None) -> Outcome:
        """Runs a command to its end."""
        with self.start(words, place, output) as command:
            return command.wait()

    def run_at(self, command: str, place: pathlib.Path) -> tuple[Outcome, Results]:
        """Runs a command of `COMMANDS` to its end; how it ended, and what it made."""
        if command == "serve":
            return self._served(place)
        outcome = self.run(self.words(command, place), place)
        return outcome, {} if outcome.status else MADE[command](place)

    def _served(self, place: pathlib.Path) -> tuple[Outcome, Results]:
        answers = {}
        with self.start(self.words("serve", place), place) as server:
            if server.until("serving on "):
                address = server.printed().partition("serving on ")[2].split(";")[0]
                body = json.dumps({"inputs": TEXTS[:4], "rationale": True}).encode()
                request = urllib.request.Request(f"{address}/predict", body)
                with urllib.request.urlopen(request, timeout=60) as response:
                    answers = {"answers": _sum(json.dumps(json.load(response)["predictions"]))}
                server.signal(signal.SIGTERM)
            return server.wait(), answers


def _sum(content: bytes | str) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:16]


def _files(*folders: pathlib.Path) -> Results:
    found = {}
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            found[str(path.relative_to(folder))] = _sum(path.read_bytes())
    return found


def _rows(path: pathlib.Path) -> Results:
    """Each row of a file of JSON lines, and their number; a row that is there twice is another result."""
    rows = path.read_bytes().splitlines(keepends=True)
    return {"rows": str(len(rows)), **{f"row {number}": _sum(row) for number, row in enumerate(rows)}}


def _objects(path: pathlib.Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def trained(place: pathlib.Path) -> Results:
    """Every array of a run's last checkpoint, the place in the data, and the metrics but for times."""
    step = step_folders(str(place / "run"))[-1]
    folder = checkpoints_of(place / "run") / str(step)
    with warnings.catch_warnings(action="ignore"):  # that no sharding is given
        arrays = jax.tree.leaves_with_path(ocp.PyTreeCheckpointer().restore(folder / STATE))
    found = {jax.tree_util.keystr(name): _sum(np.asarray(array).tobytes()) for name, array in arrays}
    found["place in the data"] = _sum((folder / LOADER / "metadata").read_bytes())
    numbers = collections.Counter()
    for line in _objects(place / "run" / METRICS):
        numbers[line["step"]] += 1
        kept = {name: value for name, value in line.items() if not name.endswith(_TIMES)}
        found[f"metrics {line['step']}/{numbers[line['step']]}"] = _sum(json.dumps(kept))
    return found | {"step": str(step)}


MADE: Mapping[str, Callable[[pathlib.Path], Results]] = {
    "prepare": lambda place: _files(place / "cache"),
    "train": trained,
    "eval": lambda place: _rows(next((place / "run" / "eval").glob("test-*.jsonl"))),
    "infer": lambda place: _rows(place / "out.jsonl"),
    "convert": lambda place: _files(place / "converted"),
    "export": lambda place: _files(place / "exported"),
    "select": lambda place: _rows(place / "chosen.jsonl"),
    "annotate": lambda place: (
        _rows(place / "annotated.jsonl")
        | {"stored": _sum(repr(sorted(row["id"] for row in _objects(place / "store.jsonl"))))}
    ),
}
