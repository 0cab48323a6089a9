"""Choosing demonstrations: the first of a pool, random ones, or the nearest by BM25."""

import hashlib
import logging
import pathlib
import re
from collections.abc import Callable, Sequence

import numpy as np
import pydantic

from distill_jax.data.schema import Example
from distill_jax.data.sources import read_jsonl
from distill_jax.errors import UserError
from distill_jax.teachers.prompts import Demonstration

Select = Callable[[Example], Sequence[Demonstration]]


def read_demonstrations(path: str) -> list[Demonstration]:
    """Demonstrations from JSON lines with `input`, `rationale`, `label` and, where rows have them, `choices`.

    Raises:
      UserError: for a line in which one of them is missing or no text.
    """
    listed = []
    for number, row in read_jsonl(pathlib.Path(path)):
        fields = {name: row[name] for name in Demonstration.model_fields if row.get(name) is not None}
        try:
            listed.append(Demonstration(**fields))
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            raise UserError(f"{path}, line {number}: {first['loc'][0]}: {first['msg']}") from None
    if not listed:
        raise UserError(f"{path}: no demonstrations in this file")
    return listed


def selector(pool: Sequence[Demonstration], how: str, shots: int | None = None, seed: int = 0) -> Select:
    """A function from a row to its demonstrations; the same row always gets the same ones.

    A demonstration with the row's own input is never shown: it would give the answer away. `how` is `fixed`,
    `random` (by the `seed`) or `nearest`, which puts the nearest last, next to the question. No `shots`: all.
    """
    shots = len(pool) if shots is None else shots
    if how == "nearest" and pool:
        rank = _bm25(pool)
    elif how == "random":
        rank = _shuffled(len(pool), seed)
    else:
        rank = _in_order(len(pool))

    def select(example: Example) -> list[Demonstration]:
        allowed = (pool[i] for i in rank(example) if pool[i].input != example.input)
        chosen = [d for d, _ in zip(allowed, range(shots), strict=False)]
        return chosen[::-1] if how == "nearest" else chosen

    return select


def _in_order(size: int) -> Callable[[Example], Sequence[int]]:
    return lambda example: range(size)


def _shuffled(size: int, seed: int) -> Callable[[Example], Sequence[int]]:
    def rank(example: Example) -> Sequence[int]:
        number = hashlib.sha256(f"{seed} {example.id}".encode()).digest()[:8]
        return np.random.default_rng(int.from_bytes(number, "big")).permutation(size).tolist()

    return rank


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _bm25(pool: Sequence[Demonstration]) -> Callable[[Example], Sequence[int]]:
    """Ranking by BM25 (Robertson and Zaragoza 2009) over the words of the inputs."""
    import bm25s

    logging.getLogger("bm25s").setLevel(logging.WARNING)  # it logs each step
    model = bm25s.BM25()
    model.index([_words(d.input) for d in pool], show_progress=False)
    known = set(model.vocab_dict)

    def rank(example: Example) -> Sequence[int]:
        words = [word for word in _words(example.input) if word in known]
        scores = model.get_scores(words) if words else np.zeros(len(pool))
        return np.argsort(-scores, kind="stable").tolist()

    return rank
