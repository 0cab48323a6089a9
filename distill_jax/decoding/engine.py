"""The engine that computes in JAX, on any device and of every family: it can do all that there is."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from distill_jax.config import Decoding
from distill_jax.data.vocabularies import Vocabulary
from distill_jax.decoding import continuous, likelihood
from distill_jax.decoding.batching import batches, bucket_length, padded
from distill_jax.decoding.continuous import Tokens
from distill_jax.decoding.engine_base import LIKELIEST, BaseEngine, Hypothesis, Score, TokenScore
from distill_jax.decoding.quantization import jit_dequantized
from distill_jax.decoding.search import beam_decode, sample_decode

PACKED = 256  # tokens of a packed row of several targets, unless a single one is longer

_sample = jit_dequantized(sample_decode, static_argnums=0, static_argnames=("max_decode_length", "num_samples"))
_beam = jit_dequantized(
    beam_decode, static_argnums=0, static_argnames=("max_decode_length", "num_beams", "beam_rule")
)
_encode = jit_dequantized(likelihood.encode, static_argnums=0)
_score = jit_dequantized(likelihood.score_tokens, static_argnums=0)
_likeliest = jit_dequantized(likelihood.likeliest_tokens, static_argnums=0, static_argnames="count")


@dataclasses.dataclass(frozen=True)
class Engine(BaseEngine):
    """A student's network with its parameters, vocabulary and shapes.

    Attributes:
      params: of the model, or what `quantization.quantize` made of them.
      model: a `models.t5.Transformer`.
    """

    params: Any
    model: Any
    vocabulary: Vocabulary
    inputs_length: int
    batch_size: int

    def refusal(self, decoding=Decoding(), label_by="generate", likeliest=False):
        if decoding.num_beams > 1 and decoding.beam_rule == "ctranslate2":
            return "beam_rule ctranslate2 is CTranslate2's own: give --engine ctranslate2, or another beam_rule"
        return None

    def generate(
        self,
        texts: Sequence[str],
        targets_length: int,
        decoding: Decoding = Decoding(),
        streams: Sequence[int] | None = None,
        start: int = 0,
    ) -> list[tuple[Hypothesis, ...]]:
        self.check(decoding)
        tokens = self._inputs(texts)
        if decoding.is_greedy:
            limits = {"batch_size": self.batch_size, "longest": self.inputs_length, **self._ends(start)}
            outputs = continuous.decode(self.model, self.params, tokens, max_length=targets_length, **limits)
            hypotheses = {item: (self._hypothesis(ids, score),) for item, ids, score in outputs}
        else:
            streams = range(len(texts)) if streams is None else streams
            hypotheses = dict(self._in_batches(tokens, streams, targets_length, decoding, start))
        return [hypotheses[item] for item in range(len(texts))]

    def _ends(self, start: int = 0) -> dict[str, int]:
        """The decoder's first input token, and the last one it writes."""
        return {"start_id": self.vocabulary.starts[start], "end_id": self.vocabulary.eos_id}

    def _padded(self, rows: Sequence[Sequence[int]], shape: tuple[int, int]) -> np.ndarray:
        """Inputs, int32 [rows, length]."""
        return padded(rows, shape, self.model.config.pad_id)

    def _in_batches(
        self, tokens: Sequence[Tokens], streams: Sequence[int], length: int, decoding: Decoding, start: int
    ) -> Iterator[tuple[int, tuple[Hypothesis, ...]]]:
        """Samples or beams of each row of tokens, with the row's number."""
        for items, shape in batches([len(t) for t in tokens], self.inputs_length, self.batch_size):
            inputs = self._padded([tokens[item] for item in items], shape)
            rows = np.zeros(shape[0], np.uint32)
            rows[: len(items)] = [streams[item] for item in items]
            out, scores = jax.device_get(self._decode(inputs, rows, length, decoding, start))
            how = (0.0,) if decoding.samples else (decoding.length_penalty, decoding.beam_rule)
            for row, item in enumerate(items):
                ranked = zip(out[row], scores[row], strict=True)
                yield item, tuple(self._hypothesis(ids, float(score), *how) for ids, score in ranked)

    def _decode(self, inputs: np.ndarray, streams: np.ndarray, length: int, decoding: Decoding, start: int):
        """Tokens [rows, n_best, length] and scores [rows, n_best] of samples or beams."""
        shared = {"max_decode_length": length, **self._ends(start)}
        if decoding.samples:
            values = (
                np.full(len(inputs), getattr(decoding, name), kind)
                for name, kind in (("temperature", np.float32), ("top_k", np.int32), ("top_p", np.float32))
            )
            noise = np.uint32(decoding.seed), streams
            shared |= {"num_samples": decoding.n_best}
            return _sample(self.model, self.params, inputs, *noise, *values, **shared)
        shared |= {name: getattr(decoding, name) for name in ("num_beams", "length_penalty", "beam_rule")}
        out, scores = _beam(self.model, self.params, inputs, **shared)
        return out[:, : decoding.n_best], scores[:, : decoding.n_best]

    def choose(self, texts: Sequence[str], choices: Sequence[Sequence[str]]) -> list[tuple[int, float]]:
        encoded = self._encode_distinct(choice for text_choices in choices for choice in text_choices)
        # A choice that holds an end token is written up to there.
        end = self.vocabulary.eos_id
        ended = {choice: ids[: ids.index(end) + 1] for choice, ids in encoded.items()}
        allowed = [[ended[choice] for choice in text_choices] for text_choices in choices]
        options = {"batch_size": self.batch_size, "longest": self.inputs_length}
        options["start_id"] = self.vocabulary.starts[0]
        chosen = continuous.choose(self.model, self.params, self._inputs(texts), allowed, **options)
        results = {item: (number, score) for item, number, score in chosen}
        return [results[item] for item in range(len(texts))]

    def _packed(
        self, texts: Sequence[str], targets: Sequence[Sequence[Sequence[int]]]
    ) -> Iterator[tuple[jax.Array, np.ndarray, np.ndarray, np.ndarray, list[tuple[int, int, int, int]]]]:
        """Batches for the functions of `likelihood`: encoded, inputs, targets, segments, and places.

        Several targets of a text share a row as far as they fit. A place is (item, number of its target, row,
        first token).
        """
        tokens = self._inputs(texts)
        widest = max([PACKED, *(len(ids) for of_item in targets for ids in of_item)])
        for items, shape in batches([len(t) for t in tokens], self.inputs_length, self.batch_size):
            inputs = self._padded([tokens[item] for item in items], shape)
            encoded = _encode(self.model, self.params, inputs)
            pending = [list(enumerate(targets[item])) for item in items]
            while any(pending):
                flat, segments, places = [], [], []
                for row, (item, left) in enumerate(zip(items, pending, strict=True)):
                    flat.append([])
                    segments.append([])
                    while left and len(flat[row]) + len(left[0][1]) <= widest:
                        number, ids = left.pop(0)
                        places.append((item, number, row, len(flat[row])))
                        segments[row] += [segments[row][-1] + 1 if segments[row] else 1] * len(ids)
                        flat[row] += ids
                shapes = (shape[0], bucket_length(max(map(len, flat))))
                yield encoded, inputs, padded(flat, shapes), padded(segments, shapes), places

    def score(
        self, texts: Sequence[str], targets: Sequence[Sequence[str]], starts: Sequence[str] | None = None
    ) -> list[list[Score]]:
        ids, skips = self._scored_ids(targets, starts)
        start_id = self.vocabulary.starts[0]
        results = [[Score(0.0, 0)] * len(of_text) for of_text in ids]
        for encoded, inputs, tokens, segments, places in self._packed(texts, ids):
            log_probs = jax.device_get(
                _score(self.model, self.params, encoded, inputs, tokens, segments, start_id)
            )
            for item, number, row, first in places:
                counted = log_probs[row, first + skips[item][number] : first + len(ids[item][number])]
                results[item][number] = Score(float(counted.sum(dtype=np.float64)), len(counted))
        return results

    def token_scores(
        self, texts: Sequence[str], targets: Sequence[Sequence[Sequence[int]]], start: int = 0
    ) -> list[list[list[TokenScore]]]:
        results: list[list[list[TokenScore]]] = [[[] for _ in of_text] for of_text in targets]
        start_id = self.vocabulary.starts[start]
        count = min(LIKELIEST, self.model.config.vocab_size)
        for *arrays, places in self._packed(texts, targets):
            log_probs = _score(self.model, self.params, *arrays, start_id)
            best = _likeliest(self.model, self.params, *arrays, start_id, count=count)
            log_probs, tokens, values = jax.device_get((log_probs, *best))
            for item, number, row, first in places:
                for place, token in enumerate(targets[item][number], first):
                    others = zip(tokens[row, place].tolist(), values[row, place].tolist(), strict=True)
                    score = TokenScore(token, float(log_probs[row, place]), tuple(others))
                    results[item][number].append(score)
        return results
