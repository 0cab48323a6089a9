"""The data of the benchmarks: CQA with PaLM's rationales, or a generated set with its lengths."""

import json
import os
import pathlib

import numpy as np
from distill_jax.tasks import registry

from benchmarks.settings import Settings
from distill_jax.data.prepare import Prepared, prepare

GENERATED = "generated"
CQA = "cqa"
VOCABULARY = "train:32000"
CHUNK = 1_000
ROWS = {"train": 9_741, "test": 1_221}
WORDS = 15_000


def which(settings: Settings) -> str:
    """The name of the data, for the results."""
    return CQA if settings.data_dir else GENERATED


def use(settings: Settings, work: pathlib.Path | None = None) -> None:
    """Sets the data folder and the cache of this process and of those that it starts."""
    work = pathlib.Path(settings.work).absolute() if work is None else work
    folder = settings.data_dir
    if folder is None:
        folder = work / GENERATED
        if not folder.exists():
            write_generated(folder)
    os.environ["DISTILL_JAX_DATA_DIR"] = str(folder)
    os.environ["DISTILL_JAX_CACHE"] = str(work / "cache")


def prepared(
    settings: Settings,
    method: str,
    inputs: int,
    targets: int,
    *,
    pack: bool = True,
    rows: int | None = None,
) -> Prepared:
    """The first `rows` rows of a random order of the train split, tokenized and packed by the project."""
    return prepare(
        *registry.resolve(f"{CQA}_{method}"),
        "train",
        vocabulary=VOCABULARY,
        task_feature_lengths={"inputs": inputs, "targets": targets},
        pack=pack,
        num_examples=settings.rows if rows is None else rows,
    )


def write_generated(folder: pathlib.Path, sizes: dict[str, int] | None = None) -> None:
    """Writes rows and completions of CQA's sizes in the layout of the paper's release.

    The words are made up, as often as words are (Zipf); the texts have CQA's parts, and its mean lengths to a
    few percent in the tokens of a vocabulary trained on them.
    """
    rng = np.random.default_rng(0)
    syllables = [c + v for c in "bcdfghklmnprstvwz" for v in "aeiou"]
    words = ["".join(rng.choice(syllables, size=rng.integers(1, 5))) for _ in range(WORDS)]
    frequency = 1.0 / np.arange(5, WORDS + 5)
    frequency /= frequency.sum()

    def text(low: int, high: int) -> str:
        return " ".join(words[n] for n in rng.choice(WORDS, size=rng.integers(low, high), p=frequency))

    temporary = folder.with_name(f"{folder.name}.{os.getpid()}")
    (temporary / CQA / "llm").mkdir(parents=True)
    for split, count in (sizes or ROWS).items():
        rows, completions = [], []
        for number in range(count):
            choices = [f"{text(1, 3)} {place}" for place in range(5)]
            question, answer = text(5, 17), choices[rng.integers(5)]
            rows.append({"id": f"{split}-{number}", "question": question, "choices": choices, "answer": answer})
            letter = "abcde"[choices.index(answer)]
            reason = f"The answer must be {text(4, 10)}. Of the above choices, only {answer} is {text(3, 8)}."
            completions.append(f"{reason} So the answer is ({letter}) {answer}.\n\nQ: {text(5, 9)}?")
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (temporary / CQA / f"{CQA}_{split}.json").write_text(lines)
        for number, start in enumerate(range(0, count, CHUNK)):
            path = temporary / CQA / "llm" / f"{split}_CoT_{number}.json"
            path.write_text(json.dumps(completions[start : start + CHUNK]))
    temporary.rename(folder)
