"""Documents to windows of tokens, and T5's span corruption of a window.

Raffel et al. 2020 (arXiv:1910.10683), sections 3.1.4 and 3.3.4. The numbers and the order of the spans, the
sentinels and the lengths are those of the t5 package's `preprocessors.span_corruption`, with NumPy's random
numbers.
"""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distill_jax.config import PretrainConfig
from distill_jax.data.records import Segment
from distill_jax.data.schema import Example
from distill_jax.data.tokenization import Counts
from distill_jax.data.views import TASK_IDS, View
from distill_jax.data.vocabularies import Vocabulary
from distill_jax.errors import UserError

LENGTHS = PretrainConfig.named("task_feature_lengths")
WINDOW = PretrainConfig.named("window")


@dataclasses.dataclass(frozen=True)
class SpanCorruption:
    """Takes spans out of a window: a sentinel stands for each in the inputs, and precedes it in the targets.

    Attributes:
      noise_density: share of the tokens that are taken out.
      mean_span: their mean number in a span.
      sentinels: ids, the first of them for the first span.
      eos_id: ends inputs and targets.
    """

    noise_density: float
    mean_span: float
    sentinels: tuple[int, ...]
    eos_id: int

    def counts(self, length: int) -> tuple[int, int]:
        """(tokens taken out, spans) of a window of `length` tokens, from 2: `random_spans_noise_mask`'s."""
        noise = min(max(round(length * self.noise_density), 1), length - 1)
        return noise, min(max(round(noise / self.mean_span), 1), length - noise)

    def lengths(self, length: int) -> tuple[int, int]:
        """(inputs, targets) that a window of `length` tokens becomes, end tokens included."""
        noise, spans = self.counts(length)
        return length - noise + spans + 1, noise + spans + 1

    def window(self, inputs: int) -> int:
        """The longest window whose inputs are no longer than `inputs`: `random_spans_helper`'s."""
        length = 2
        while self.lengths(length + 1)[0] <= inputs:
            length += 1
        return length

    def mask(self, length: int, random: np.random.Generator) -> np.ndarray:
        """Which tokens of a window are taken out: bool [length].

        Kept and taken spans alternate, a kept one first; all such masks with these counts are equally likely.
        """
        noise, spans = self.counts(length)
        taken, kept = (_parts(total, spans, random) for total in (noise, length - noise))
        return np.repeat(np.arange(2 * spans) % 2 == 1, np.stack([kept, taken], axis=1).reshape(-1))

    def __call__(self, tokens: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, targets), int32, of a window and which of its tokens are taken out."""
        return self._marked(tokens, mask), self._marked(tokens, ~mask)

    def _marked(self, tokens: np.ndarray, gone: np.ndarray) -> np.ndarray:
        """The tokens, each run that is gone replaced by its sentinel, and the end token."""
        first = gone & ~np.concatenate([[False], gone[:-1]])
        marked = np.where(first, np.array(self.sentinels)[np.cumsum(first) - 1], tokens)
        return np.append(marked[first | ~gone], self.eos_id).astype(np.int32)

    def corrupt(self, segment: Segment, seed: int, epoch: int) -> Segment:
        """The segment of a window as a pair; the spans depend on seed, epoch and the window's tokens alone."""
        tokens = np.asarray(segment.inputs, np.int32)
        random = np.random.default_rng((seed, epoch, zlib.crc32(tokens.tobytes())))
        inputs, targets = self(tokens, self.mask(len(tokens), random))
        return dataclasses.replace(segment, inputs=inputs, targets=targets)


def _parts(total: int, count: int, random: np.random.Generator) -> np.ndarray:
    """Lengths of `count` parts of `total` items, none empty, all such divisions equally likely: int [count]."""
    cuts = np.sort(random.choice(total - 1, count - 1, replace=False)) + 1
    return np.diff([0, *cuts, total])


def make_corruption(view: View, vocabulary: Vocabulary, lengths: Mapping[str, int]) -> SpanCorruption | None:
    """The corruption of a view that pretrains; None where it continues texts.

    Raises:
      UserError: when inputs or targets of a window are longer than a row, or the vocabulary has too few
        sentinels for it.
    """
    if view.noise is None:
        return None
    corruption = SpanCorruption(*view.noise, vocabulary.sentinels, vocabulary.eos_id)
    size = size_of(view, lengths, corruption)
    (inputs, targets), spans = corruption.lengths(size), corruption.counts(size)[1]
    if inputs > lengths["inputs"] or targets > lengths["targets"]:
        raise UserError(
            f"{LENGTHS} {lengths['inputs']},{lengths['targets']}: a window of {size} tokens makes "
            f"inputs of {inputs} and targets of {targets}: give --lengths {inputs},{targets}"
        )
    if spans > len(vocabulary.sentinels):
        raise UserError(
            f"the vocabulary has {len(vocabulary.sentinels)} sentinels, a window for inputs of "
            f"{lengths['inputs']} tokens has {spans} spans: give a vocabulary with more (train:SIZE makes "
            "one), or shorter --lengths"
        )
    return dataclasses.replace(corruption, sentinels=vocabulary.sentinels[:spans])


def spans_of(views: Sequence[View], lengths: Mapping[str, int]) -> int:
    """Sentinels that a vocabulary needs for these views; none but for one that pretrains by span corruption."""
    spans = 0
    for view in views:
        if view.noise is not None:
            corruption = SpanCorruption(*view.noise, (), 0)
            spans += corruption.counts(size_of(view, lengths, corruption))[1]
    return spans


def size_of(view: View, lengths: Mapping[str, int], corruption: SpanCorruption | None) -> int:
    """Tokens of a window: as many as the view says, or as a row has room for.

    Raises:
      UserError: for a window that is longer than a row.
    """
    room = lengths["targets"] + 2 if corruption is None else corruption.window(lengths["inputs"])
    if view.window is not None and view.window > room:
        raise UserError(
            f"{WINDOW} {view.window}: a row of {LENGTHS} {lengths['inputs']},{lengths['targets']} has room "
            f"for a window of {room} tokens: give longer rows, or a shorter window"
        )
    return view.window or room


def windows(
    examples: Sequence[tuple[int, Example]],
    view: View,
    vocabulary: Vocabulary,
    lengths: Mapping[str, int],
    corruption: SpanCorruption | None,
    counts: Counts,
    random: np.random.Generator,
) -> list[list[Segment]]:
    """Documents in a random order, one after the other, cut into windows: a segment each.

    With `corruption`, as in T5's pretraining, nothing stands between documents, and a window's tokens are the
    segment's inputs, which `SpanCorruption.corrupt` turns into a pair. Without it each document has its end
    token, and a window's first token is the segment's inputs, its second the decoder's first input, and all
    others are the targets. A last window that is too short for that has end tokens before it.

    Args:
      examples: numbered documents.
      counts: is added to.
    """
    counts.examples += len(examples)
    counts.with_target[view.name] += len(examples)
    order = random.permutation(len(examples)).tolist()
    documents = vocabulary.encode_batch([view.inputs(examples[i][1]) for i in order])
    size, least = size_of(view, lengths, corruption), 3 if corruption is None else 2
    if corruption is None:
        documents = [[*vocabulary.before, *tokens, vocabulary.eos_id] for tokens in documents]
    numbers = np.repeat([examples[i][0] for i in order], [len(tokens) for tokens in documents])
    flat = np.array([token for tokens in documents for token in tokens], np.int32)
    if vocabulary.unk_id is not None:
        counts.unknown_tokens += int((flat == vocabulary.unk_id).sum())
    groups = []
    for begin in range(0, len(flat), size):
        tokens = flat[begin : begin + size].tolist()
        tokens = [*[vocabulary.eos_id] * (least - len(tokens)), *tokens]
        fields: dict[str, Any] = {"task_id": TASK_IDS[view.name], "example": int(numbers[begin])}
        if corruption is None:
            first, second, *rest = tokens
            segment, sizes = Segment([first], rest, start=second, **fields), (1, len(rest))
        else:
            segment = Segment(tokens, (), start=vocabulary.starts[0], **fields)
            sizes = corruption.lengths(len(tokens))
        counts.views[view.name] += 1
        counts.encoder_tokens += sizes[0]
        counts.decoder_tokens += sizes[1]
        groups.append([segment])
    return groups
