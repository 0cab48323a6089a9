"""The engine that computes in CTranslate2, on a CPU: T5 students, greedily, by beams, and the scores of labels.

The model is written once per checkpoint, into the cache. A worker of one thread runs on each core.
"""

import functools
import itertools
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from distill_jax import checksums
from distill_jax.checkpoints import reading, run_dir
from distill_jax.checkpoints.layout import checkpoints_of
from distill_jax.checkpoints.other_formats import ctranslate
from distill_jax.checkpoints.other_formats.parameters import fingerprint
from distill_jax.config import Decoding
from distill_jax.data import cache
from distill_jax.data.prepare import hash_of
from distill_jax.data.vocabularies import Vocabulary
from distill_jax.decoding.engine_base import BaseEngine, Score
from distill_jax.models.config import ModelConfig

BATCH = 32  # rows of a worker at most: a batch is as long as its longest output


def unavailable(config: ModelConfig, weights: str) -> str | None:
    """Why CTranslate2 cannot run a network here, and what to do; None where it can."""
    if weights not in ctranslate.WEIGHTS:
        return f"it has no {weights} weights, give --weights {' or '.join(ctranslate.WEIGHTS)}"
    return ctranslate.unfit(config) or ctranslate.missing()


def written(model_dir: str, step: int, eos_id: int, weights: str, verify: bool = True) -> pathlib.Path:
    """The folder of the cache that has the model of a run's checkpoint; it is written where it is missing.

    Raises:
      UserError: for a damaged checkpoint, and where the folder cannot be written.
    """
    checkpoint = functools.cache(lambda: reading.open_checkpoint(model_dir, step, verify))
    sums = checkpoints_of(model_dir) / str(step) / checksums.NAME
    content = sums.read_text() if sums.exists() else fingerprint(checkpoint().parameters)
    key = hash_of([ctranslate.version(), run_dir.fingerprint(model_dir), content, weights])

    def make(folder: pathlib.Path) -> None:
        config: Any = checkpoint().model_config()
        ctranslate.write(folder, checkpoint().parameters, config, eos_id, weights)

    return cache.made(cache.cache_dir() / "ctranslate2" / key, make, verify)


class CTranslateEngine(BaseEngine):
    """A model of `written`, as `Student.engine` makes it; the arguments are those of `BaseEngine`."""

    def __init__(
        self, folder: pathlib.Path, weights: str, vocabulary: Vocabulary, inputs_length: int, batch_size: int
    ):
        import ctranslate2

        self.vocabulary, self.inputs_length, self.batch_size = vocabulary, inputs_length, batch_size
        workers = {"inter_threads": len(os.sched_getaffinity(0)), "intra_threads": 1}
        self._translator = ctranslate2.Translator(str(folder), device="cpu", compute_type=weights, **workers)
        self._limits = {"max_batch_size": min(batch_size, BATCH), "max_input_length": 0}

    def refusal(self, decoding=Decoding(), label_by="generate", likeliest=False):
        what = None
        if decoding.samples:
            what = "draws samples that seed and row do not decide"
        elif decoding.num_beams > 1 and decoding.beam_rule != "ctranslate2":
            what = f"has no beam_rule {decoding.beam_rule}, but its own (--beam-rule ctranslate2)"
        elif label_by == "constrain":
            what = "cannot constrain what is written to some labels"
        elif likeliest:
            what = "does not give the likeliest tokens of each place (logprobs)"
        return what and f"CTranslate2 {what}: give --engine jax, or auto"

    def generate(self, texts, targets_length, decoding=Decoding(), streams=None, start=0):
        self.check(decoding)
        first = str(self.vocabulary.starts[start])
        results = self._translator.translate_batch(
            _tokens(self._inputs(texts)),
            [[first]] * len(texts),
            beam_size=decoding.num_beams,
            num_hypotheses=decoding.n_best,
            length_penalty=0.0 if decoding.is_greedy else decoding.length_penalty,
            max_decoding_length=targets_length,
            min_decoding_length=0,
            return_scores=True,
            return_end_token=True,
            **self._limits,
        )
        how = (0.0,) if decoding.is_greedy else (decoding.length_penalty, decoding.beam_rule)
        return [
            tuple(
                self._hypothesis(np.array(tokens, np.int32), score, *how)
                for tokens, score in zip(result.hypotheses, result.scores, strict=True)
            )
            for result in results
        ]

    def choose(self, texts, choices):
        self.check(label_by="constrain")

    def score(self, texts, targets, starts=None):
        ids, skips = self._scored_ids(targets, starts)
        first = str(self.vocabulary.starts[0])
        inputs = _tokens(self._inputs(texts))
        pairs = [
            (source, [first, *row[:-1]])  # the end token is added
            for source, of_text in zip(inputs, ids, strict=True)
            for row in _tokens(of_text)
        ]
        sources, rows = zip(*pairs, strict=True) if pairs else ((), ())
        scored = iter(self._translator.score_batch(list(sources), list(rows), **self._limits))

        def counted(result: Any, skip: int) -> Score:
            log_probs = result.log_probs[skip:]
            return Score(float(sum(log_probs)), len(log_probs))

        return [
            [
                counted(result, skip)
                for result, skip in zip(itertools.islice(scored, len(of_text)), of_text, strict=True)
            ]
            for of_text in skips
        ]

    def token_scores(self, texts, targets, start=0):
        self.check(likeliest=True)


def _tokens(rows: Sequence[Sequence[int]]) -> list[list[str]]:
    """Ids as `other_formats.ctranslate` names them."""
    return [list(map(str, row)) for row in rows]
