"""Rows per second of greedy decoding, ours and transformers', of one student: `python -m benchmarks.decode`.

The student is a T5 1.1 small, overfitted to 128 rows of CQA, so that its outputs are sentences and most of
them end; the first run trains it, in some minutes on two cores. `--model RUN` takes another student. Both
decode the test rows in turns, in one process, with the same number of threads. transformers runs with the
attention and the batch size that are fastest for it on this machine. Its time is that of `generate` alone,
from ids to ids; ours includes the tokenizer and the log-probabilities. Needs torch and transformers.
"""

import argparse
import dataclasses
import itertools
import json
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax

from distill_jax import train
from distill_jax.checkpoints.convert import convert
from distill_jax.config import ConvertConfig
from distill_jax.data import cache
from distill_jax.data.vocabularies import EOS_ID
from distill_jax.decoding.engine import Engine
from distill_jax.decoding.student import Student, load_student

TUNED_ON = 64  # rows that transformers' settings are tried on


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
      model_dir: the student's run; None trains the one described above and stores it in the cache.
      data_dir: folder of the data sets.
      split: of the student's task.
      views: what is decoded.
      rows: number of rows from the first; None for all.
      repeats: of each side.
      batch_size: of ours.
      peer_batch_sizes: of transformers, to choose from.
      peer_attention: of transformers, to choose from: `eager`, `sdpa`.
      peer_cache: `dynamic` or `static`, to choose from.
      max_length: tokens of an output at most.
      threads: of torch. Ours takes the cores that the process may run on.
    """

    model_dir: str | None = None
    data_dir: str | None = None
    split: str = "test"
    views: tuple[str, ...] = ("label", "rationale")
    rows: int | None = None
    repeats: int = 5
    batch_size: int = 128
    peer_batch_sizes: tuple[int, ...] = (16, 64, 128)
    peer_attention: tuple[str, ...] = ("eager", "sdpa")
    peer_cache: tuple[str, ...] = ("dynamic",)
    max_length: int = 128
    threads: int = len(os.sched_getaffinity(0))


def _trained(data_dir: str | None) -> str:
    folder = cache.cache_dir() / "benchmarks" / "t5_1_1_small"
    if not (folder / "checkpoints").is_dir():
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
        ]
        if train.main(flags):
            raise RuntimeError("training the student failed, see above")
    return str(folder)


class Peer:
    """transformers' `generate` on given ids, sorted by length and padded to the longest of a batch."""

    def __init__(self, folder: pathlib.Path, ids: list[list[int]], settings: Settings):
        import torch
        import transformers

        torch.set_num_threads(settings.threads)
        self._torch, self._ids = torch, ids
        self.version = transformers.__version__
        self._models = {
            name: transformers.T5ForConditionalGeneration.from_pretrained(
                folder, attn_implementation=name
            ).eval()
            for name in settings.peer_attention
        }
        self.chosen: tuple[str, int, str] | None = None

    def generate(self, max_length: int, how: tuple[str, int, str], count: int | None = None) -> list[list[int]]:
        """The first rows' outputs, each up to its end token."""
        torch, (attention, batch_size, kind) = self._torch, how
        ids = self._ids[:count]
        order = sorted(range(len(ids)), key=lambda item: len(ids[item]))
        outputs: list[list[int]] = [[]] * len(ids)
        static = {"cache_implementation": "static"} if kind == "static" else {}
        with torch.inference_mode():
            for items in (order[n : n + batch_size] for n in range(0, len(order), batch_size)):
                longest = max(len(ids[item]) for item in items)
                batch = torch.tensor([ids[item] + [0] * (longest - len(ids[item])) for item in items])
                found = self._models[attention].generate(
                    input_ids=batch,
                    attention_mask=(batch > 0).long(),
                    max_new_tokens=max_length,
                    do_sample=False,
                    num_beams=1,
                    use_cache=True,
                    **static,
                )
                for item, row in zip(items, found[:, 1:].tolist(), strict=True):  # the first is the start
                    outputs[item] = row[: row.index(EOS_ID) + 1] if EOS_ID in row else row
        return outputs

    def tune(self, max_length: int, settings: Settings) -> dict[str, float]:
        """Selects the fastest of the settings; the seconds of each, if there are several."""
        tried: dict[tuple[str, int, str], float] = {}
        choice = [*itertools.product(settings.peer_attention, settings.peer_batch_sizes, settings.peer_cache)]
        if len(choice) == 1:
            [self.chosen] = choice
            return {}
        for how in choice:
            self.generate(min(max_length, 8), how, TUNED_ON)
            tried[how] = _timed(lambda h=how: self.generate(max_length, h, TUNED_ON))[1]
        self.chosen = min(tried, key=tried.get)
        return {" ".join(map(str, how)): seconds for how, seconds in tried.items()}


def _timed(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result, seconds by the clock, and by the processor, which other processes disturb less."""
    clock, processor = time.perf_counter(), time.process_time()
    result = function()
    return result, time.perf_counter() - clock, time.process_time() - processor


def _rates(seconds: list[tuple[float, float]], rows: int) -> dict[str, Any]:
    rates = [rows / clock for clock, _ in seconds]
    return {
        "rows_per_second": rates,
        "median": statistics.median(rates),
        "lowest": min(rates),
        "highest": max(rates),
        "processor_ms_per_row": statistics.median(1000 * cpu / rows for _, cpu in seconds),
    }


def _compare(student: Student, engine: Engine, folder: pathlib.Path, view, examples, settings: Settings):
    texts = [view.inputs(example) for example in examples]
    ids = [[*row[: engine.inputs_length - 1], EOS_ID] for row in student.vocabulary.encode_batch(texts)]
    length = settings.max_length
    peer = Peer(folder, ids, settings)
    tried = peer.tune(length, settings)

    def ours():
        return [list(some[0].tokens) for some in engine.generate(texts, length)]

    def theirs():
        return peer.generate(length, peer.chosen)

    ours()  # compiles
    seconds: dict[str, list[tuple[float, float]]] = {"ours": [], "transformers": []}
    for _ in range(settings.repeats):
        for name, function in (("ours", ours), ("transformers", theirs)):
            outputs, clock, processor = _timed(function)
            seconds[name].append((clock, processor))
            if name == "ours":
                mine = outputs
    lengths = sorted(map(len, mine))
    found = {name: _rates(taken, len(texts)) for name, taken in seconds.items()}
    processor = {name: rates["processor_ms_per_row"] for name, rates in found.items()}
    return found | {
        "rows": len(texts),
        "ratio": found["ours"]["median"] / found["transformers"]["median"],
        "processor_ratio": processor["transformers"] / processor["ours"],
        "rows_that_differ": sum(a != b for a, b in zip(mine, outputs, strict=True)),
        "transformers_settings": dict(zip(("attention", "batch_size", "cache"), peer.chosen, strict=True)),
        "transformers_tried": tried,
        "output_tokens": {
            "mean": statistics.fmean(lengths),
            "median": lengths[len(lengths) // 2],
            "longest": lengths[-1],
            "without_end": sum(row[-1] != EOS_ID for row in mine),
        },
    }


def run(settings: Settings) -> dict[str, Any]:
    """Measures labels and rationales.

    Returns:
      By the name of each view: rows per second of each repetition, medians and spread of `ours` and
      `transformers`, the ratio of the medians, the number of rows whose tokens differ, and the settings.
    """
    model_dir = settings.model_dir or _trained(settings.data_dir)
    student = load_student(model_dir, settings.data_dir)
    engine = student.engine(None, settings.batch_size)
    examples = list(itertools.islice(student.task.source.examples(settings.split), settings.rows))
    results: dict[str, Any] = {
        "settings": dataclasses.asdict(settings),
        "jax": jax.__version__,
        "cores": len(os.sched_getaffinity(0)),
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary) / "student"
        convert(ConvertConfig(source=model_dir, destination=str(folder), to="huggingface"))
        for view in (view for view in student.views if view.name in settings.views):
            results[view.name] = _compare(student, engine, folder, view, examples, settings)
    return results


def _main(args: argparse.Namespace) -> None:
    given = {name: value for name, value in vars(args).items() if name != "json" and value is not None}
    results = run(Settings(**given))
    for name in (name for name, value in results.items() if isinstance(value, dict) and "ratio" in value):
        of = results[name]
        print(
            f"{name}: {of['rows']} rows, {of['output_tokens']['mean']:.1f} tokens each, "
            f"{of['rows_that_differ']} differ"
        )
        for side in ("ours", "transformers"):
            rates = of[side]
            how = "" if side == "ours" else f"  ({', '.join(map(str, of['transformers_settings'].values()))})"
            print(
                f"  {side:13} {rates['median']:7.1f} rows/s ({rates['lowest']:.1f} to {rates['highest']:.1f}), "
                f"{rates['processor_ms_per_row']:.1f} ms of processor a row{how}"
            )
        print(f"  {of['ratio']:.2f} times, {of['processor_ratio']:.2f} times by processor time")
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
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--peer-batch-sizes", type=lambda text: tuple(map(int, text.split(","))))
    parser.add_argument("--peer-attention", type=lambda text: tuple(text.split(",")))
    parser.add_argument("--peer-cache", type=lambda text: tuple(text.split(",")))
    parser.add_argument("--max-length", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", help="file to write the figures to")
    _main(parser.parse_args())
