"""What every engine takes and returns: texts in, texts or log-probabilities out."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from distill_jax.config import Decoding
from distill_jax.data.vocabularies import Vocabulary
from distill_jax.decoding.search import length_divisor
from distill_jax.errors import UserError

LIKELIEST = 20  # alternatives of `token_scores`; what OpenAI's API gives at most


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


class BaseEngine:
    """A student that is ready to decode; `texts` are inputs throughout, prefixes included.

    Attributes:
      vocabulary: of both sides.
      inputs_length: tokens of an input at most, the end token included; longer ones are cut.
      batch_size: examples per batch.
    """

    vocabulary: Vocabulary
    inputs_length: int
    batch_size: int

    def refusal(
        self, decoding: Decoding = Decoding(), label_by: str = "generate", likeliest: bool = False
    ) -> str | None:
        """What this engine cannot do of this, and who can; None where it can do all.

        `label_by` is of `predict.Request`; `likeliest` is whether `token_scores` is needed.
        """
        raise NotImplementedError

    def check(self, *args, **options) -> None:
        """Raises UserError with the `refusal` of the same arguments, if there is one."""
        if reason := self.refusal(*args, **options):
            raise UserError(reason)

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

        Raises:
          UserError: for what the engine refuses.
        """
        raise NotImplementedError

    def choose(self, texts: Sequence[str], choices: Sequence[Sequence[str]]) -> list[tuple[int, float]]:
        """Decodes every text greedily to one of its choices, one or more of each; see `continuous.choose`.

        Returns:
          Of each text the place of what was chosen, and its log-probability, of which at each step the tokens
          that some choice goes on with share the whole.

        Raises:
          UserError: where the engine refuses it.
        """
        raise NotImplementedError

    def score(
        self, texts: Sequence[str], targets: Sequence[Sequence[str]], starts: Sequence[str] | None = None
    ) -> list[list[Score]]:
        """The log-probability of each target of each text.

        `starts` are of each text what all its targets (one or more) begin with: tokens in it are not counted.
        """
        raise NotImplementedError

    def token_scores(
        self, texts: Sequence[str], targets: Sequence[Sequence[Sequence[int]]], start: int = 0
    ) -> list[list[list[TokenScore]]]:
        """The log-probability of every token of some targets, and of the 20 likeliest in its place.

        `targets` are of each text one or more lists of ids, `start` is as of `View.start`. Raises UserError
        where the engine refuses it.
        """
        raise NotImplementedError

    def _inputs(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text, cut to `inputs_length`, with what the vocabulary puts around them."""
        return [self.vocabulary.frame(ids, self.inputs_length) for ids in self.vocabulary.encode_batch(texts)]

    def _hypothesis(self, ids: np.ndarray, score: float, penalty: float = 0.0, *rule: str) -> Hypothesis:
        """Up to the end token; `score` is over the divisor of this penalty and rule."""
        ends = np.flatnonzero(ids == self.vocabulary.eos_id)
        tokens = ids[: ends[0] + 1 if len(ends) else len(ids)].tolist()
        log_prob = score * length_divisor(len(tokens), penalty, *rule)
        return Hypothesis(self.vocabulary.decode(tokens), score, log_prob, tuple(tokens))

    def _encode_distinct(self, texts: Iterable[str]) -> dict[str, list[int]]:
        """The tokens of each distinct text, with the end token."""
        distinct = list(dict.fromkeys(texts))
        encoded = self.vocabulary.encode_targets(distinct)
        return {text: [*ids, self.vocabulary.eos_id] for text, ids in zip(distinct, encoded, strict=True)}

    def _scored_ids(
        self, targets: Sequence[Sequence[str]], starts: Sequence[str] | None
    ) -> tuple[list[list[list[int]]], list[list[int]]]:
        """The tokens of `score`'s targets with the end token, and how many of each are not counted."""
        encoded = self._encode_distinct(target for of_text in targets for target in of_text)
        ids = [[encoded[target] for target in of_text] for of_text in targets]
        begin = self.vocabulary.encode_targets(starts) if starts else [[]] * len(ids)
        return ids, [
            [_shared_length(start, e) for e in of_text] for start, of_text in zip(begin, ids, strict=True)
        ]


def _shared_length(start: Sequence[int], tokens: Sequence[int]) -> int:
    """Tokens that both begin with."""
    pairs = zip(start, tokens, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(start), len(tokens)))
