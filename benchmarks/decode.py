"""Rows per second of greedy decoding of one student, ours and the peers': `python -m benchmarks.decode`.

The student is a T5 1.1 small, overfitted to 128 rows of CQA, so that its outputs are sentences and most of
them end; the first run trains it, in some minutes on two cores. `--model RUN` takes another student. All decode
the test rows in turns, each in a process of its own, on the same cores. transformers and CTranslate2 run in the
batches that are fastest for them on this machine, transformers also with the attention that is. Their time is
that of decoding alone, from ids to ids; ours includes the tokenizer and the log-probabilities.
"""

import argparse
import dataclasses
import importlib.util
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from typing import Any

import jax

from benchmarks import flops, measure, peaks, turns
from distill_jax.checkpoints import orbax
from distill_jax.checkpoints.convert import convert
from distill_jax.config import ConvertConfig
from distill_jax.data import cache
from distill_jax.decoding import ctranslate
from distill_jax.decoding.student import Student, load_student

CONTESTANTS = ("ours", "transformers", "ctranslate2_float32", "ctranslate2_int8")
NEEDED = {"ours": (), "transformers": ("torch", "transformers")}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
      model_dir: the student's run; None trains the one described above and stores it in the cache.
      data_dir: folder of the data sets.
      split: of the student's task.
      views: what is decoded.
      rows: number of rows from the first; None for all.
      repeats: rounds.
      seconds: for the rounds of a view; at least one is done.
      batch_size: of ours.
      tuned_on: rows that the peers' settings are tried on.
      peer_batch_sizes: of transformers, to choose from.
      peer_attention: of transformers, to choose from: `eager`, `sdpa`.
      peer_cache: `dynamic` or `static`, to choose from.
      max_length: tokens of an output at most.
      threads: of the peers. Ours takes the cores that the process may run on.
    """

    model_dir: str | None = None
    data_dir: str | None = None
    split: str = "test"
    views: tuple[str, ...] = ("label", "rationale")
    rows: int | None = None
    repeats: int = 5
    seconds: float = float("inf")
    batch_size: int = 128
    tuned_on: int = 64
    peer_batch_sizes: tuple[int, ...] = (16, 64)
    peer_attention: tuple[str, ...] = ("eager", "sdpa")
    peer_cache: tuple[str, ...] = ("dynamic",)
    max_length: int = 128
    threads: int = len(os.sched_getaffinity(0))


def _trained(data_dir: str | None) -> str:
    folder = cache.cache_dir() / "benchmarks" / "t5_1_1_small"
    if not (folder / "checkpoints").is_dir():
        measure.tell("the student is trained first, once: some minutes")
        flags = [
            "--gin_file=models/t5_1_1/small.gin",
            "--gin_file=recipes/step_by_step.gin",
            "--gin.MIXTURE_OR_TASK_NAME=cqa_step_by_step",
            f"--gin.MODEL_DIR={str(folder)!r}",
            f"--gin.DATA_DIR={data_dir!r}",
            "--gin.INITIAL_CHECKPOINT_PATH='none'",
            "--gin.VOCABULARY='train:8000'",  # of the 32,128 ids that the network has all the same
            "--gin.TASK_FEATURE_LENGTHS={'inputs': 256, 'targets': 96}",
            "--gin.NUM_EXAMPLES=128",
            "--gin.BATCH_SIZE=8",
            "--gin.TRAIN_STEPS=250",
            "--gin.WARMUP_STEPS=25",
            "--gin.LEARNING_RATE=1e-3",
            "--gin.DROPOUT_RATE=0.0",
            "--gin.EVAL_PERIOD=0",
            "--quiet",
        ]
        # In a process of its own, whose memory is given back.
        subprocess.run([sys.executable, "-m", "distill_jax.train", *flags], check=True, stdout=sys.stderr)
    return str(folder)


def _installed(name: str) -> bool:
    return all(importlib.util.find_spec(package) for package in NEEDED.get(name, ("ctranslate2",)))


def _written(student: Student, folder: pathlib.Path) -> dict[str, Any]:
    """The student as each peer loads it."""
    convert(ConvertConfig(source=student.model_dir, destination=str(folder), to="huggingface"))
    found: dict[str, Any] = {"folder": str(folder), "ctranslate2": {}}
    step = orbax.pick_step(student.model_dir, None)
    for name in filter(_installed, CONTESTANTS[2:]):
        weights = name.removeprefix("ctranslate2_")
        model = ctranslate.written(student.model_dir, step, student.vocabulary.eos_id, weights)
        found["ctranslate2"][weights] = str(model)
    return found


def _measure(student: Student, view, examples, settings: Settings, written: dict, place) -> dict[str, Any]:
    """A view: rates and details of all contestants."""
    texts = [view.inputs(example) for example in examples]
    words, longest = student.vocabulary, student.lengths["inputs"]
    ids = [words.frame(row, longest) for row in words.encode_batch(texts)]
    job = dataclasses.asdict(settings) | written | {"texts": texts, "ids": ids, "model_dir": student.model_dir}
    names = [name for name in CONTESTANTS if _installed(name)]
    limits = {"repeats": settings.repeats, "seconds": settings.seconds}
    rates, details = turns.measured("benchmarks.decode_peers", job, names, place=place, **limits)
    outputs = {name: details[name].pop("outputs") for name in names}
    mine = outputs["ours"]
    lengths = sorted(map(len, mine))
    pairs = zip(ids, mine, strict=True)
    config = student.model.config
    return {
        **dict.fromkeys(CONTESTANTS),
        **rates,
        "rows": len(texts),
        "flops": dict.fromkeys(
            names, statistics.fmean(flops.forward_flops(config, *map(len, p)) for p in pairs)
        ),
        "rows_that_differ": {
            name: sum(a != b for a, b in zip(mine, outputs[name], strict=True)) for name in names[1:]
        },
        **{key: {name: one[key] for name, one in details.items() if key in one} for key in DETAILS},
        "output_tokens": {
            "mean": statistics.fmean(lengths),
            "median": lengths[len(lengths) // 2],
            "longest": lengths[-1],
            "without_end": sum(row[-1] != words.eos_id for row in mine),
        },
    }


DETAILS = ("settings", "tried", "processor_ms_per_row", "peak_gib", "seconds_by_program")


def run(settings: Settings, place: type[turns.Place] = turns.Alone) -> dict[str, Any]:
    """Measures labels and rationales.

    Returns:
      By the name of each view: rows per second of each round by contestant (None for one that is not
      installed), how many rows' tokens differ from ours, settings, peak memory and the operations of a row.
    """
    model_dir = settings.model_dir or _trained(settings.data_dir)
    student = load_student(model_dir, settings.data_dir)
    examples = list(itertools.islice(student.task.source.examples(settings.split), settings.rows))
    results: dict[str, Any] = {
        "settings": dataclasses.asdict(settings),
        "jax": jax.__version__,
        "cores": len(os.sched_getaffinity(0)),
    }
    with tempfile.TemporaryDirectory() as temporary:
        written = _written(student, pathlib.Path(temporary) / "student")
        for view in (view for view in student.views if view.name in settings.views):
            results[view.name] = _measure(student, view, examples, settings, written, place)
    return results


def _print(name: str, found: dict[str, Any]) -> None:
    print(f"{name}: {found['rows']} rows, {found['output_tokens']['mean']:.1f} tokens each")
    for side in filter(found.get, CONTESTANTS):
        rates = measure.summary(found[side])
        how = " ".join(map(str, found["settings"][side].values()))
        differ = found["rows_that_differ"].get(side)
        print(
            f"  {side:20} {rates['median']:7.1f} rows/s (spread {rates['spread']:.0%}), "
            f"{statistics.median(found['processor_ms_per_row'][side]):.1f} ms of processor a row, "
            f"{found['peak_gib'][side]:.2f} GiB ({how})" + ("" if differ is None else f", {differ} rows differ")
        )


def _main(args: argparse.Namespace) -> None:
    given = {name: value for name, value in vars(args).items() if name != "json" and value is not None}
    results = run(Settings(**given)) | {"peaks": peaks.of_libraries()}
    for name, found in results.items():
        if isinstance(found, dict) and "rows_that_differ" in found:
            _print(name, found)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", dest="model_dir", help="a run; default: trains one")
    parser.add_argument("--data-dir")
    parser.add_argument("--split")
    parser.add_argument("--views", type=lambda text: tuple(text.split(",")))
    parser.add_argument("--rows", type=int)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--seconds", type=float, help="for the rounds of a view")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--peer-batch-sizes", type=lambda text: tuple(map(int, text.split(","))))
    parser.add_argument("--peer-attention", type=lambda text: tuple(text.split(",")))
    parser.add_argument("--peer-cache", type=lambda text: tuple(text.split(",")))
    parser.add_argument("--max-length", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", help="file to write the figures to")
    _main(parser.parse_args())
