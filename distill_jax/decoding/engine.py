"""Texts in, texts or log-probabilities out: what a student writes, and how likely it finds given texts."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from distill_jax.config import Decoding
from distill_jax.data.vocabularies import Vocabulary
from distill_jax.decoding import continuous, likelihood
from distill_jax.decoding.batching import batches, bucket_length, padded
from distill_jax.decoding.continuous import Tokens
from distill_jax.decoding.quantization import jit_dequantized
from distill_jax.decoding.search import beam_decode, length_divisor, sample_decode

LIKELIEST = 20  # alternatives of `token_scores`; what OpenAI's API gives at most
PACKED = 256  # tokens of a packed row of several targets, unless a single one is longer

_sample = jit_dequantized(sample_decode, static_argnums=0, static_argnames=("max_decode_length", "num_samples"))
_beam = jit_dequantized(
    beam_decode, static_argnums=0, static_argnames=("max_decode_length", "num_beams", "beam_rule")
)
_encode = jit_dequantized(likelihood.encode, static_argnums=0)
_score = jit_dequantized(likelihood.score_tokens, static_argnums=0)
_likeliest = jit_dequantized(likelihood.likeliest_tokens, static_argnums=0, static_argnames="count")


@dataclasses.dataclass(frozen=True, slots=True)
class Hypothesis:
    """A decoded text.

    Attributes:
      text: without the end token.
      score: what it was ranked by: the log-probability, over the length penalty for beams.
      log_prob: of its tokens, the end token included, at temperature 1.
      tokens: its ids, the end token included where it was reached.
    """

    text: str
    score: float
    log_prob: float
    tokens: tuple[int, ...] = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Score:
    """Log-probability of a given text, its end token included, and the number of tokens it is a sum over."""

    log_prob: float
    tokens: int


@dataclasses.dataclass(frozen=True, slots=True)
class TokenScore:
    """A token of a text, its log-probability, and the likeliest tokens at its place with theirs."""

    token: int
    log_prob: float
    likeliest: tuple[tuple[int, float], ...]


@dataclasses.dataclass(frozen=True)
class Engine:
    """A student's network with its parameters, vocabulary and shapes; `texts` are inputs, prefixes included.

    Attributes:
      params: of the model, or what `quantization.quantize` made of them.
      model: a `models.t5.Transformer`.
      vocabulary: of both sides.
      inputs_length: tokens of an input at most, the end token included; longer ones are cut.
      batch_size: examples per batch.
    """

    params: Any
    model: Any
    vocabulary: Vocabulary
    inputs_length: int
    batch_size: int

    def generate(
        self,
        texts: Sequence[str],
        targets_length: int,
        decoding: Decoding = Decoding(),
        streams: Sequence[int] | None = None,
        start: int = 0,
    ) -> list[tuple[Hypothesis, ...]]:
        """Decodes every text.

        Args:
          targets_length: tokens of an output at most, the end token included.
          decoding: how.
          streams: a number below 2**32 for each text, which with the seed decides its samples; default its
            place in `texts`.
          start: see `View.start`.

        Returns:
          `decoding.n_best` hypotheses of each, in the order of `texts`. Beams come best first; samples in
          the order they were drawn, so that the first do not depend on how many are asked for.
        """
        tokens = self._inputs(texts)
        if decoding.is_greedy:
            limits = {"batch_size": self.batch_size, "longest": self.inputs_length, **self._ends(start)}
            outputs = continuous.decode(self.model, self.params, tokens, max_length=targets_length, **limits)
            hypotheses = {item: (self._hypothesis(ids, score),) for item, ids, score in outputs}
        else:
            streams = range(len(texts)) if streams is None else streams
            hypotheses = dict(self._in_batches(tokens, streams, targets_length, decoding, start))
        return [hypotheses[item] for item in range(len(texts))]

    def _inputs(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text, cut to `inputs_length`, with what the vocabulary puts around them."""
        return [self.vocabulary.frame(ids, self.inputs_length) for ids in self.vocabulary.encode_batch(texts)]

    def _padded(self, rows: Sequence[Sequence[int]], shape: tuple[int, int]) -> np.ndarray:
        """Inputs, int32 [rows, length]."""
        return padded(rows, shape, self.model.config.pad_id)

    def _ends(self, start: int = 0) -> dict[str, int]:
        """The decoder's first input token, and the last one it writes."""
        return {"start_id": self.vocabulary.starts[start], "end_id": self.vocabulary.eos_id}

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

    def _hypothesis(self, ids: np.ndarray, score: float, penalty: float = 0.0, *rule: str) -> Hypothesis:
        """Up to the end token; `score` is over the divisor of this penalty and rule."""
        ends = np.flatnonzero(ids == self.vocabulary.eos_id)
        tokens = ids[: ends[0] + 1 if len(ends) else len(ids)].tolist()
        log_prob = score * length_divisor(len(tokens), penalty, *rule)
        return Hypothesis(self.vocabulary.decode(tokens), score, log_prob, tuple(tokens))

    def choose(self, texts: Sequence[str], choices: Sequence[Sequence[str]]) -> list[tuple[int, float]]:
        """Decodes every text greedily to one of its choices, one or more of each; see `continuous.choose`.

        Returns:
          Of each text the place of what was chosen, and its log-probability, of which at each step the tokens
          that some choice goes on with share the whole.
        """
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

    def _encode_distinct(self, texts: Iterable[str]) -> dict[str, list[int]]:
        """The tokens of each distinct text, with the end token."""
        distinct = list(dict.fromkeys(texts))
        encoded = self.vocabulary.encode_targets(distinct)
        return {text: [*ids, self.vocabulary.eos_id] for text, ids in zip(distinct, encoded, strict=True)}

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
        """The log-probability of each target of each text.

        `starts` are of each text what all its targets (one or more) begin with: tokens in it are not counted.
        """
        encoded_targets = self._encode_distinct(target for of_text in targets for target in of_text)
        ids = [[encoded_targets[target] for target in of_text] for of_text in targets]
        begin = self.vocabulary.encode_targets(starts) if starts else [[]] * len(ids)
        skips = [[_shared_length(start, e) for e in of_text] for start, of_text in zip(begin, ids, strict=True)]
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
        """The log-probability of every token of some targets, and of the 20 likeliest in its place.

        `targets` are of each text one or more lists of ids, `start` is as of `View.start`.
        """
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


def _shared_length(start: Sequence[int], tokens: Sequence[int]) -> int:
    """Tokens that both begin with."""
    pairs = zip(start, tokens, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(start), len(tokens)))
