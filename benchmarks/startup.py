"""Seconds from nothing: the import, the first train step, a line through `infer`, and compiling T5 1.1 XL.

    python -m benchmarks.startup

Each in a process of its own, with the process's peak memory. `train_again` and `infer_again` are the commands,
the second time: with records, vocabulary and compiled programs in the cache. The others have no cache.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

from benchmarks import data, measure, worker
from benchmarks import settings as settings_of
from benchmarks.contestants import LEARNING_RATE
from benchmarks.settings import Settings

COMMANDS = ("train_again", "infer_again")
PARTS = ("import", "import_trainer", "first_step", "reference_first_step", *COMMANDS, "xl_compile")
ONCE = ("xl_compile",)
TRAIN = (
    "--gin_file=models/t5_1_1/small.gin",
    "--gin.INITIAL_CHECKPOINT_PATH='none'",
    "--gin.VOCABULARY='train:8000'",
    "--gin.NUM_EXAMPLES=128",
    "--gin.TRAIN_STEPS=1",
    "--gin.EVAL_PERIOD=0",
)
LINE = "Tom has 3 pens and buys 4. How many has he?\n"
LENGTHS = (256, 96)
ROWS = 6
XL_LENGTHS = {"inputs": 512, "targets": 256}
XL_ROWS = 8


def _import() -> dict:
    began = time.perf_counter()
    import distill_jax

    seconds = time.perf_counter() - began
    return {"seconds": seconds, "version": distill_jax.__version__}


def _import_trainer() -> dict:
    """What `distill-jax train` imports: the package itself puts off all that is heavy."""
    began = time.perf_counter()
    from distill_jax.training import trainer

    return {"seconds": time.perf_counter() - began, "of": trainer.__name__}


def _batches():
    from benchmarks import fabricated

    return fabricated.packed(fabricated.pairs(64), LENGTHS, ROWS)


def _first_step(size: str) -> dict:
    """Imports, random weights, compilation and one update: seconds of all and of the step alone."""
    began = time.perf_counter()
    from benchmarks import ours, students
    from distill_jax.models.t5 import Transformer
    from distill_jax.training import train_state

    config = students.config(size)
    one = ours.contestant(config, train_state.init_params(Transformer(config), 0), *_batches())
    ready = time.perf_counter()
    one.step(0)
    ended = time.perf_counter()
    return {"seconds": ended - ready, "with_imports_and_weights": ended - began}


def _reference_first_step(size: str) -> dict:
    """The same of the paper's computation; its weights are random and made by transformers."""
    from benchmarks import fabricated, pytorch_reference, students

    config = students.config(size)
    batches = pytorch_reference.collated(fabricated.pairs(16), 16)
    began = time.perf_counter()
    one = pytorch_reference.contestant(config, None, batches)
    ready = time.perf_counter()
    one.step(0)
    ended = time.perf_counter()
    return {"seconds": ended - ready, "with_imports_and_weights": ended - began}


def _xl_compile(size: str) -> dict:
    """Lowers and compiles the train step over shapes, layers under a scan; nothing is allocated."""
    import jax

    from benchmarks import students
    from distill_jax.data.records import to_features
    from distill_jax.models.t5 import Transformer
    from distill_jax.training import optimizers
    from distill_jax.training.losses import step_by_step_weights
    from distill_jax.training.start import state_shapes
    from distill_jax.training.step import make_train_step

    config = students.config(size, "bfloat16", scan_layers=True, remat="full")
    model, optimizer = Transformer(config), optimizers.adamw(LEARNING_RATE)
    features = to_features([], XL_LENGTHS)
    batch = {name: jax.ShapeDtypeStruct((XL_ROWS, *x.shape), x.dtype) for name, x in features.items()}
    state = state_shapes(model, optimizer)
    step = make_train_step(model, optimizer, step_by_step_weights())
    began = time.perf_counter()
    step.lower(state, batch).compile()
    return {"seconds": time.perf_counter() - began, "parameters": _count(state.params)}


def _count(params) -> int:
    import math

    import jax

    return sum(math.prod(x.shape) for x in jax.tree.leaves(params))


def _until(command: list[str], line: str | None, given: str | None = None) -> tuple[float, float, float]:
    """Seconds until a command prints a line with such a beginning (None: until it ends), those of all, its GiB.

    Raises RuntimeError when it fails.
    """
    began, seconds, printed = time.perf_counter(), None, []
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen([sys.executable, "-m", "distill_jax.cli", *command], **pipes)
    process.stdin.write(given or "")
    process.stdin.close()
    for text in process.stdout:
        printed.append(text)
        if line is not None and seconds is None and text.startswith(line):
            seconds = time.perf_counter() - began
    _, status, usage = os.wait4(process.pid, 0)
    whole = time.perf_counter() - began
    if status or (seconds is None and line is not None):
        raise RuntimeError(f"{command[0]}: {worker.last_line(''.join(printed), status)}")
    return whole if seconds is None else seconds, whole, usage.ru_maxrss / 2**20


def _commands(settings: Settings, repeats: int) -> dict[str, dict]:
    """`train` to its first step, and one line through `infer`, each after it has run once."""
    data.use(settings)
    taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(repeats + 1):
            run = f"{folder}/{number}"
            train = ["train", f"{data.CQA}_step_by_step", "--model-dir", run, *TRAIN]
            taken["train_again"].append(_until(train, "step 1/"))
            infer = ["infer", run, "--input-format", "text"]
            taken["infer_again"].append(_until(infer, None, LINE))
            shutil.rmtree(run)
    names = ("seconds", "process_seconds", "peak_gib")
    found = {name: dict(zip(names, zip(*all_[1:], strict=True), strict=True)) for name, all_ in taken.items()}
    return {name: one | {"peak_gib": max(one["peak_gib"])} for name, one in found.items()}


def run(settings: Settings, parts=PARTS, xl_size: str = "xl") -> dict:
    """Seconds of each repetition, and the highest memory in GiB.

    Args:
      settings: of the run.
      parts: of `PARTS`; the reference's is None where torch is not installed.
      xl_size: another one to be compiled, for tests.
    """
    from benchmarks import pytorch_reference

    found: dict = {}
    for part in parts:
        measure.tell(part)
        repeats = 1 if part in ONCE else settings.repeats
        if part in COMMANDS:
            if part not in found:
                found |= _commands(settings, repeats)
            continue
        if part == "reference_first_step" and not pytorch_reference.available():
            found[part] = None
            continue
        size = xl_size if part == "xl_compile" else settings.size
        answers = [worker.call("benchmarks.startup", "--worker", part, size) for _ in range(repeats)]
        found[part] = {
            "seconds": [answer["seconds"] for answer in answers],
            "process_seconds": [answer["process_seconds"] for answer in answers],
            "peak_gib": max(answer["peak_gib"] for answer in answers),
        }
    return found


def _worker(part: str, size: str) -> dict:
    if part in ("import", "import_trainer"):
        return {"import": _import, "import_trainer": _import_trainer}[part]()
    return {
        "first_step": _first_step,
        "reference_first_step": _reference_first_step,
        "xl_compile": _xl_compile,
    }[part](size)


def main() -> None:
    """Measures and prints JSON; or is the process that is measured."""
    if sys.argv[1:2] == ["--worker"]:
        worker.answer(_worker(*sys.argv[2:]))
        return
    print(json.dumps(run(settings_of.parse(__doc__)), indent=2))


if __name__ == "__main__":
    main()
