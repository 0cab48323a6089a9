"""Texts to texts: tokenizes, sorts by length, decodes in batches of few static shapes."""

from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from distill_jax.data.vocabularies import EOS_ID, Vocabulary
from distill_jax.models.decoding import beam_decode, greedy_decode

SHORTEST = 16  # smallest padded length of inputs; each further one is twice as long

_greedy = jax.jit(greedy_decode, static_argnums=0, static_argnames="max_decode_length")
_beam = jax.jit(
    beam_decode,
    static_argnums=0,
    static_argnames=("max_decode_length", "num_beams", "length_penalty"),
)


def bucket_length(length: int, longest: int) -> int:
    """The padded length for inputs of `length` tokens: few lengths, so few programs to compile."""
    bucket = SHORTEST
    while bucket < length:
        bucket *= 2
    return min(bucket, max(longest, length))


def length_batches(lengths: Sequence[int], longest: int, batch_size: int) -> Iterator[tuple[list[int], int]]:
    """Groups items by bucket.

    Args:
      lengths: tokens of each item.
      longest: cap of the bucket lengths.
      batch_size: items of a group at most.

    Yields:
      (item numbers, padded length), shortest first; every item once.
    """
    buckets: dict[int, list[int]] = {}
    for item in np.argsort(lengths, kind="stable").tolist():
        buckets.setdefault(bucket_length(lengths[item], longest), []).append(item)
    for padded, items in sorted(buckets.items()):
        for start in range(0, len(items), batch_size):
            yield items[start : start + batch_size], padded


def decode_texts(
    params,
    model,
    vocabulary: Vocabulary,
    texts: Sequence[str],
    *,
    batch_size: int,
    inputs_length: int,
    targets_length: int,
    num_beams: int = 1,
    length_penalty: float = 0.6,
    progress: Callable[[int], None] | None = None,
) -> list[tuple[str, float]]:
    """Decodes every text; the results are in the order of `texts`.

    Args:
      params: of the model.
      model: a `models.t5.Transformer`.
      vocabulary: of both sides.
      texts: inputs, prefixes included; cut at `inputs_length` tokens.
      batch_size: texts decoded at a time.
      inputs_length: tokens of an input at most, the end token included.
      targets_length: tokens of an output at most, the end token included.
      num_beams: 1 is greedy.
      length_penalty: of beam search.
      progress: called with the number of texts done.

    Returns:
      (text, score) of each: the score is the log-probability, over the length penalty for beams.
    """
    tokens = [[*ids[: inputs_length - 1], EOS_ID] for ids in vocabulary.encode_batch(texts)]
    results: list[tuple[str, float]] = [("", 0.0)] * len(texts)
    done = 0
    for items, padded in length_batches([len(t) for t in tokens], inputs_length, batch_size):
        # Always full batches: the last one's empty rows decode to nothing that is kept.
        inputs = np.zeros((batch_size, padded), np.int32)
        inputs[:, 0] = EOS_ID
        for row, item in enumerate(items):
            inputs[row, : len(tokens[item])] = tokens[item]
        if num_beams == 1:
            out, scores = _greedy(model, params, inputs, max_decode_length=targets_length)
        else:
            out, scores = _beam(
                model,
                params,
                inputs,
                max_decode_length=targets_length,
                num_beams=num_beams,
                length_penalty=length_penalty,
            )
            out, scores = out[:, 0], scores[:, 0]
        out, scores = jax.device_get((out, scores))
        for row, item in enumerate(items):
            results[item] = vocabulary.decode(out[row].tolist()), float(scores[row])
        done += len(items)
        if progress is not None:
            progress(done)
    return results
