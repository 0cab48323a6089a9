"""Rows a second and peak memory of `prepare` on a generated set of e-SNLI's size and layout.

    python -m benchmarks.prepare --rows 549367

Writes premise/hypothesis rows and completions in the paper's layout (chunks of 5,500, as e-SNLI has them),
trains a SentencePiece vocabulary on part of the text, and prepares `esnli_step_by_step` in a process of its
own, as `distill-jax prepare` does.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

from distill_jax.data.vocabularies import train_vocabulary

CHUNK = 5_500
WORDS = (
    "a the two young old man woman child dog people group boy girl is are riding playing standing walking "
    "sitting running looking holding jumping bike street park water field city beach ball guitar camera crowd "
    "red blue green white black shirt hat jacket near behind through over outside inside with on in at"
).split()
LABELS = ("entailment", "neutral", "contradiction")


def sentence(rng: np.random.Generator, low: int, high: int) -> str:
    """Words without sense, of e-SNLI's lengths."""
    picked = rng.choice(WORDS, size=rng.integers(low, high))
    return " ".join(picked).capitalize() + "."


def write(folder: pathlib.Path, rows: int) -> list[str]:
    """Writes the train split; some of its texts."""
    rng = np.random.default_rng(0)
    (folder / "esnli" / "llm").mkdir(parents=True)
    texts = []
    with (folder / "esnli" / "esnli_train.json").open("w") as file:
        for start in range(0, rows, CHUNK):
            completions = []
            for _ in range(min(CHUNK, rows - start)):
                label = int(rng.integers(3))
                row = {"premise": sentence(rng, 8, 20), "hypothesis": sentence(rng, 4, 10), "label": label}
                file.write(json.dumps(row) + "\n")
                reason = sentence(rng, 8, 24)
                completions.append(f"{reason}\nAnswer: {LABELS[label]}\n\nPremise: {row['premise']}")
                if len(texts) < 20_000:
                    texts += [row["premise"], reason]
            name = f"train_CoT_{start // CHUNK}.json"
            (folder / "esnli" / "llm" / name).write_text(json.dumps(completions))
    return texts


def main() -> None:
    """Measures and prints one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=549_367)
    parser.add_argument("--lengths", default="512,320")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        train_vocabulary(write(folder, args.rows), 1000).save(folder / "vocabulary")
        command = [sys.executable, "-m", "distill_jax.cli", "prepare", "esnli", "--data-dir", str(folder)]
        command += ["--vocabulary", str(folder / "vocabulary"), "--lengths", args.lengths]
        began = time.monotonic()
        environment = os.environ | {"DISTILL_JAX_CACHE": str(folder / "cache")}
        subprocess.run(command, check=True, env=environment)
        seconds = time.monotonic() - began
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        figures = {
            "rows": args.rows,
            "seconds": round(seconds, 1),
            "rows_per_second": round(args.rows / seconds),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
            "peak_memory_gib": round(usage.ru_maxrss / 2**20, 3),
        }
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
