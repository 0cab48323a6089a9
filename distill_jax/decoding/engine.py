"""Texts in, texts or scores out: what a student says, and how likely it finds what others might say."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from distill_jax.config import Decoding
from distill_jax.data.vocabularies import EOS_ID, Vocabulary
from distill_jax.decoding import continuous, likelihood
from distill_jax.decoding.batching import batches, bucket_length, padded
from distill_jax.decoding.quantization import program
from distill_jax.decoding.search import beam_decode, sample_decode

LIKELIEST = 20  # of `token_scores`; what OpenAI's API gives at most
PACKED = 256  # tokens of a row of several targets, unless a single one is longer

_sample = program(sample_decode, static_argnums=0, static_argnames=("max_decode_length", "num_samples"))
_beam = program(
    beam_decode,
    static_argnums=0,
    static_argnames=("max_decode_length", "num_beams", "length_penalty"),
)
_encode = program(likelihood.encode, static_argnums=0)
_score = program(likelihood.score_tokens, static_argnums=0)
_likeliest = program(likelihood.likeliest_tokens, static_argnums=0, static_argnames="count")


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
    """A student's network with its parameters, vocabulary and shapes.

    Attributes:
      params: of the model, or what `models.weights.shrink` made of them.
      model: a `models.t5.Transformer`.
      vocabulary: of both sides.
      inputs_length: tokens of an input at most, the end token included; longer ones are cut.
      batch_size: texts worked off at a time.
    """

    params: Any
    model: Any
    vocabulary: Vocabulary
    inputs_length: int
    batch_size: int

    def _inputs(self, texts: Sequence[str]) -> list[list[int]]:
        room = self.inputs_length - 1
        return [[*ids[:room], EOS_ID] for ids in self.vocabulary.encode_batch(texts)]

    def generate(
        self,
        texts: Sequence[str],
        targets_length: int,
        decoding: Decoding = Decoding(),  # noqa: B008, frozen
        streams: Sequence[int] | None = None,
        progress: Callable[[int], None] | None = None,
        start_id: int = 0,
    ) -> list[tuple[Hypothesis, ...]]:
        """Decodes every text.

        Args:
          texts: inputs, prefixes included.
          targets_length: tokens of an output at most, the end token included.
          decoding: how.
          streams: a number below 2**32 for each text, which with the seed decides its samples; default its
            place in `texts`.
          progress: called with the number of texts done.
          start_id: the decoder's first input token; see `View.start`.

        Returns:
          `decoding.n_best` hypotheses of each, in the order of `texts`. Beams come best first; samples in
          the order they were drawn, so that the first do not depend on how many are asked for.
        """
        tokens = self._inputs(texts)
        results: list[tuple[Hypothesis, ...]] = [()] * len(texts)
        done = 0
        if decoding.is_greedy:
            for item, ids, score in self._greedy(tokens, targets_length, start_id):
                results[item] = (self._hypothesis(ids, score, decoding),)
                done += 1
                if progress is not None:
                    progress(done)
            return results
        streams = range(len(texts)) if streams is None else streams
        for items, shape in batches([len(t) for t in tokens], self.inputs_length, self.batch_size):
            inputs = padded([tokens[item] for item in items], shape)
            rows = np.zeros(shape[0], np.uint32)
            rows[: len(items)] = [streams[item] for item in items]
            out, scores = jax.device_get(self._decode(inputs, rows, targets_length, decoding, start_id))
            for row, item in enumerate(items):
                results[item] = tuple(
                    self._hypothesis(ids, float(score), decoding)
                    for ids, score in zip(out[row], scores[row], strict=True)
                )
            done += len(items)
            if progress is not None:
                progress(done)
        return results

    def _greedy(self, tokens: Sequence[Sequence[int]], targets_length: int, start_id: int):
        return continuous.decode(
            self.model,
            self.params,
            tokens,
            batch_size=self.batch_size,
            longest=self.inputs_length,
            max_length=targets_length,
            start_id=start_id,
        )

    def choose(
        self,
        texts: Sequence[str],
        choices: Sequence[Sequence[str]],
        progress: Callable[[int], None] | None = None,
    ) -> list[tuple[int, float]]:
        """Decodes every text greedily to one of its choices; see `continuous.choose`.

        Args:
          texts: inputs, prefixes included.
          choices: of each text one or more.
          progress: called with the number of texts done.

        Returns:
          Of each text the place of what was chosen, and its log-probability, where at each step the tokens
          that some choice goes on with share all there is.
        """
        known = list(dict.fromkeys(choice for some in choices for choice in some))
        encode = dict(zip(known, self.vocabulary.encode_batch(known), strict=True))
        ends = {choice: [*ids, EOS_ID].index(EOS_ID) for choice, ids in encode.items()}
        ids = [[[*encode[choice][: ends[choice]], EOS_ID] for choice in some] for some in choices]
        results = [(0, 0.0)] * len(texts)
        chosen = continuous.choose(
            self.model,
            self.params,
            self._inputs(texts),
            ids,
            batch_size=self.batch_size,
            longest=self.inputs_length,
        )
        for done, (item, number, score) in enumerate(chosen, 1):
            results[item] = number, score
            if progress is not None:
                progress(done)
        return results

    def _decode(
        self, inputs: np.ndarray, streams: np.ndarray, targets_length: int, decoding: Decoding, start_id: int
    ):
        """Tokens [rows, n_best, targets_length] and scores [rows, n_best]."""
        if decoding.samples:
            rows = len(inputs)
            return _sample(
                self.model,
                self.params,
                inputs,
                np.uint32(decoding.seed),
                streams,
                np.full(rows, decoding.temperature, np.float32),
                np.full(rows, decoding.top_k, np.int32),
                np.full(rows, decoding.top_p, np.float32),
                max_decode_length=targets_length,
                num_samples=decoding.n_best,
                start_id=start_id,
            )
        out, scores = _beam(
            self.model,
            self.params,
            inputs,
            max_decode_length=targets_length,
            num_beams=decoding.num_beams,
            length_penalty=decoding.length_penalty,
            start_id=start_id,
        )
        return out[:, : decoding.n_best], scores[:, : decoding.n_best]

    def _hypothesis(self, ids: np.ndarray, score: float, decoding: Decoding) -> Hypothesis:
        ends = np.flatnonzero(ids == EOS_ID)
        kept = ids[: ends[0] + 1 if len(ends) else len(ids)].tolist()
        penalty = 1.0
        if decoding.num_beams > 1:
            penalty = ((5.0 + len(kept)) / 6.0) ** decoding.length_penalty
        return Hypothesis(self.vocabulary.decode(kept), score, score * penalty, tuple(kept))

    def _packed(
        self, texts: Sequence[str], targets: Sequence[Sequence[Sequence[int]]]
    ) -> Iterator[tuple[jax.Array, np.ndarray, np.ndarray, np.ndarray, list[tuple[int, int, int, int]]]]:
        """Batches for the functions of `models.scoring`: encoded, inputs, targets, segments, and places.

        A place is (item, number of its target, row, first token).
        """
        tokens = self._inputs(texts)
        widest = max([PACKED, *(len(ids) for of_item in targets for ids in of_item)])
        for items, shape in batches([len(t) for t in tokens], self.inputs_length, self.batch_size):
            inputs = padded([tokens[item] for item in items], shape)
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
        """How likely each target of each text is.

        Args:
          texts: inputs, prefixes included.
          targets: of each text one or more.
          starts: of each text, what all its targets begin with: tokens in there are not counted.
        """
        known = list(dict.fromkeys(target for of_text in targets for target in of_text))
        encode = dict(zip(known, self.vocabulary.encode_batch(known), strict=True))
        ids = [[[*encode[target], EOS_ID] for target in of_text] for of_text in targets]
        begun = self.vocabulary.encode_batch(starts) if starts else [[]] * len(ids)
        skips = [[_shared_length(start, e) for e in of_text] for start, of_text in zip(begun, ids, strict=True)]
        results = [[Score(0.0, 0)] * len(of_text) for of_text in ids]
        for encoded, inputs, tokens, segments, places in self._packed(texts, ids):
            log_probs = jax.device_get(_score(self.model, self.params, encoded, inputs, tokens, segments))
            for item, number, row, first in places:
                counted = log_probs[row, first + skips[item][number] : first + len(ids[item][number])]
                results[item][number] = Score(float(counted.sum(dtype=np.float64)), len(counted))
        return results

    def token_scores(
        self, texts: Sequence[str], targets: Sequence[Sequence[Sequence[int]]], start_id: int = 0
    ) -> list[list[list[TokenScore]]]:
        """The log-probability of every token of some targets, and of the 20 likeliest in its place.

        Args:
          texts: inputs, prefixes included.
          targets: of each text one or more lists of ids.
          start_id: see `generate`.
        """
        results: list[list[list[TokenScore]]] = [[[] for _ in of_text] for of_text in targets]
        count = min(LIKELIEST, self.model.config.vocab_size)
        for *arrays, places in self._packed(texts, targets):
            log_probs = _score(self.model, self.params, *arrays, start_id)
            best = _likeliest(self.model, self.params, *arrays, start_id, count=count)
            log_probs, tokens, values = jax.device_get((log_probs, *best))
            for item, number, row, first in places:
                results[item][number] = [
                    TokenScore(
                        token,
                        float(log_probs[row, place]),
                        tuple(zip(tokens[row, place].tolist(), values[row, place].tolist(), strict=True)),
                    )
                    for place, token in enumerate(targets[item][number], first)
                ]
        return results


def _shared_length(start: Sequence[int], tokens: Sequence[int]) -> int:
    """Tokens that both begin with."""
    pairs = zip(start, tokens, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(start), len(tokens)))
